"""Which shard a task lives in, and the names of channels. The names of keys stand in ``lua/base.lua``."""

from __future__ import annotations

from binascii import crc32

from attrs import field, frozen

LAYOUT_VERSION = 1
"""Of keys and values; a node refuses to work on another one."""

BELL_VERSION = 1
"""Of bells as they travel (see ``bells``); a node refuses to work among others that ring in another one."""

DEFAULT_SHARDS = 16


def pack(text: str) -> bytes:
    """Free text as Redis has it; lone surrogates survive."""
    return text.encode("utf-8", "surrogatepass")


def unpack(raw: bytes) -> str:
    """``pack`` read back."""
    return raw.decode("utf-8", "surrogatepass")


def given(value: str | bytes | int | None) -> bytes:
    """An optional argument of a script: nothing, or ``=`` and the value."""
    if value is None:
        return b""
    if isinstance(value, str):
        value = pack(value)
    return b"=%b" % value if isinstance(value, bytes) else b"=%d" % value


@frozen
class Keys:
    """The key space of one prefix."""

    prefix: str
    shards: int
    tags: tuple[str, ...] = field(init=False, eq=False)
    """The tags of all shards."""

    @tags.default
    def _all_tags(self) -> tuple[str, ...]:
        return tuple(self.tag(number) for number in range(self.shards))

    @property
    def layout(self) -> str:
        """Where version and number of shards are kept."""
        return layout_key(self.prefix)

    @property
    def workers(self) -> str:
        """The tag of workers, assignments and dead letters."""
        return f"{{{self.prefix}:w}}"

    def tag(self, number: int) -> str:
        """The hash tag of a shard."""
        return f"{{{self.prefix}:{number:02}}}"

    def shard_of(self, name: str) -> int:
        """The shard of a task or an idempotency key."""
        return crc32(pack(name)) % self.shards

    def of(self, name: str) -> str:
        """The tag of a task or an idempotency key."""
        return self.tags[self.shard_of(name)]

    def bell(self, channel: str) -> bytes:
        """The pub/sub channel of a task."""
        return b"%b:b:%b" % (pack(self.of(channel)), pack(channel))

    def all_bells(self) -> list[bytes]:
        """The channels that carry the bells of all tasks, one per shard."""
        return [pack(f"{tag}:a") for tag in self.tags]

    def all_bells_with(self, task_id: str) -> bytes:
        """The one of them that carries a task's."""
        return pack(f"{self.of(task_id)}:a")


def channel_of(name: bytes) -> str | None:
    """What a pub/sub channel is called without its prefix; None for those of all tasks."""
    form, _, channel = name[name.index(b"}") + 2 :].partition(b":")
    return unpack(channel) if form == b"b" else None


def layout_key(prefix: str) -> str:
    """Where version and number of shards of a prefix are kept."""
    return f"{{{prefix}}}:layout"
