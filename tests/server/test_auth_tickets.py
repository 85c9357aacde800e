"""Stream tickets: one task, reading only, sixty seconds, and what a running stream adds to that."""

import time

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from taskcast_core import wire
from taskcast_core.clock import Clock
from taskcast_core.contracts.auth import Principal
from taskcast_core.errors import Forbidden, Unauthorized
from taskcast_core.models import TaskAuthConfig
from taskcast_server.auth.none import OPEN
from taskcast_server.auth.options import AuthOptions, JwtOptions
from taskcast_server.auth.rules import satisfies
from taskcast_server.auth.tickets import TicketOffice, ticket_secret

NOW_S = int(time.time())
RULES = wire.from_wire(
    {"rules": [{"match": {"scope": ["event:subscribe"]}, "require": {"sub": ["alice"], "claims": {"tenant": "t1"}}}]},
    TaskAuthConfig,
)
ALICE = Principal(
    scopes=frozenset({"*"}), subject="alice", name="jwt:alice", expires_at=NOW_S + 3600.0, worker_id="w",
    claims={"tenant": "t1", "email": "alice@example.com"},
)  # fmt: skip


class HandClock(Clock):
    def __init__(self) -> None:
        self.s = float(NOW_S)

    def now_ms(self) -> int:
        return int(self.s * 1000)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def office(clock: HandClock) -> TicketOffice:
    return TicketOffice("secret", max_stream_s=86_400, clock=clock)


def refused(office: TicketOffice, text: str, task_id: str = "t") -> bool:
    with pytest.raises(Unauthorized, match="Invalid or expired ticket"):
        office.admit(text, task_id)
    return True


def test_a_ticket_reads_one_task(office: TicketOffice) -> None:
    principal = office.admit(office.issue(ALICE, "t").text, "t").principal
    assert principal.allows("event:subscribe", "t") and not principal.allows("event:subscribe", "u")
    for scope in ("event:publish", "event:history", "task:manage", "admin", "*"):
        assert not principal.allows(scope, "t")
    assert (principal.subject, principal.name, principal.expires_at) == ("alice", "jwt:alice", NOW_S + 3600)
    assert principal.worker_id is None


def test_a_ticket_is_for_no_other_task(office: TicketOffice) -> None:
    assert refused(office, office.issue(ALICE, "t").text, "u")


def test_it_opens_streams_for_sixty_seconds(office: TicketOffice, clock: HandClock) -> None:
    issued = office.issue(ALICE, "t")
    assert issued.expires_at == NOW_S + 60
    clock.s += 59
    assert office.admit(issued.text, "t")
    clock.s += 1
    assert refused(office, issued.text)


def test_it_never_outlives_its_principal(office: TicketOffice, clock: HandClock) -> None:
    issued = office.issue(evolve(ALICE, expires_at=NOW_S + 10.0), "t")
    ticket = office.admit(issued.text, "t")
    assert ticket.principal.expires_at == NOW_S + 10
    with office.streaming(ticket):
        clock.s += 10
        assert refused(office, issued.text) and refused(office, office.renew(ticket).text)


def test_a_principal_without_end_gets_one(clock: HandClock) -> None:
    office = TicketOffice("secret", max_stream_s=1000, clock=clock)
    assert office.admit(office.issue(OPEN, "t").text, "t").principal.expires_at == NOW_S + 1000


def test_every_node_with_the_secret_accepts_it(office: TicketOffice, clock: HandClock) -> None:
    text = office.issue(ALICE, "t").text
    assert TicketOffice("secret", clock=clock).admit(text, "t").principal.subject == "alice"
    assert refused(TicketOffice("another", clock=clock), text)


def test_without_a_secret_each_process_has_its_own_key(clock: HandClock) -> None:
    one, other = TicketOffice(clock=clock), TicketOffice(clock=clock)
    text = one.issue(ALICE, "t").text
    assert one.admit(text, "t") and refused(other, text)


def test_who_may_not_read_gets_no_ticket(office: TicketOffice) -> None:
    for principal in (
        evolve(ALICE, scopes=frozenset({"event:publish"})),
        evolve(ALICE, task_ids=frozenset({"u"})),
    ):
        with pytest.raises(Forbidden):
            office.issue(principal, "t")


def test_it_carries_what_the_rules_of_the_task_ask_for_and_nothing_else(office: TicketOffice) -> None:
    ruled = office.admit(office.issue(ALICE, "t", RULES).text, "t").principal
    assert satisfies(RULES, "event:subscribe", ruled) and ruled.claims == {"tenant": "t1"}
    plain = office.admit(office.issue(ALICE, "t").text, "t").principal
    assert plain.claims == {} and not satisfies(RULES, "event:subscribe", plain)


def test_the_open_principal_stays_open(office: TicketOffice) -> None:
    assert satisfies(RULES, "event:subscribe", office.admit(office.issue(OPEN, "t", RULES).text, "t").principal)


def test_nothing_can_be_read_from_a_ticket(office: TicketOffice) -> None:
    issued = office.issue(ALICE, "t", RULES)
    assert "alice" not in issued.text and issued.text not in repr(issued)
    assert issued.text.isascii() and all(char.isalnum() or char in "-_." for char in issued.text), "safe in a URL"


def test_any_change_is_noticed(office: TicketOffice) -> None:
    text = office.issue(ALICE, "t").text
    for position in range(len(text) - 1):  # the last digit may hold unused bits
        changed = text[:position] + ("A" if text[position] != "A" else "B") + text[position + 1 :]
        assert refused(office, changed)
    assert refused(office, text[:-4]) and refused(office, text + "AAAA") and refused(office, "x" * 100_000)


@given(st.text(max_size=60))
def test_rubbish_is_refused(text: str) -> None:
    office = TicketOffice("secret")
    assert refused(office, text) and refused(office, "tct1." + text)


def test_a_running_stream_keeps_its_ticket(office: TicketOffice, clock: HandClock) -> None:
    text = office.issue(ALICE, "t").text
    ticket = office.admit(text, "t")
    with office.streaming(ticket):
        clock.s += 1800
        again = office.admit(text, "t")
        with office.streaming(again):
            pass
        assert office.admit(text, "t"), "the older of the two streams still runs"
    clock.s += 59
    with office.streaming(office.admit(text, "t")):
        clock.s += 600
    clock.s += 60
    assert refused(office, text)


def test_another_node_does_not_know_of_the_stream(office: TicketOffice, clock: HandClock) -> None:
    text = office.issue(ALICE, "t").text
    ticket = office.admit(text, "t")
    elsewhere = TicketOffice("secret", clock=clock)
    with office.streaming(ticket):
        clock.s += 61
        assert refused(elsewhere, text)
        renewed = office.renew(ticket)
        assert elsewhere.admit(renewed.text, "t").id == ticket.id and renewed.expires_at == clock.s + 60


def test_at_most_two_streams_of_a_ticket_at_a_time(office: TicketOffice) -> None:
    text = office.issue(ALICE, "t").text
    ticket = office.admit(text, "t")
    with office.streaming(ticket):
        with office.streaming(office.admit(text, "t")):
            for shown in (text, office.renew(ticket).text):
                with pytest.raises(Unauthorized, match="in use"):
                    office.admit(shown, "t")
        assert office.admit(text, "t")


def test_streams_leave_nothing_behind(office: TicketOffice, clock: HandClock) -> None:
    for number in range(11_000):
        with office.streaming(office.admit(office.issue(ALICE, f"t{number}").text, f"t{number}")):
            pass
    assert not office._open and len(office._closed) <= 10_000
    clock.s += 61
    with office.streaming(office.admit(office.issue(ALICE, "t").text, "t")):
        pass
    assert len(office._closed) == 1


def test_a_ticket_has_to_fit_into_a_url(office: TicketOffice) -> None:
    with pytest.raises(Forbidden, match="do not fit"):
        office.issue(evolve(ALICE, claims={"tenant": "x" * 9000}), "t", RULES)


def test_which_secret_seals_tickets() -> None:
    jwt = JwtOptions(secret="of-the-tokens")
    assert ticket_secret(AuthOptions(mode="jwt", ticket_secret="own"), jwt) == "own"
    assert ticket_secret(AuthOptions(mode="jwt"), jwt) == "of-the-tokens"
    assert ticket_secret(AuthOptions(mode="jwt"), JwtOptions()) is None is ticket_secret(AuthOptions())
