"""How often Python searches for reference cycles."""

import gc


def look_less_often_for_cycles(objects: int = 20_000) -> None:
    """Never look through what is there now, and through what comes once there are so many new objects.

    The modules of a program and a log in memory are objects that stay, by the hundred thousand, with few cycles among
    them: by its defaults, Python would search for a fifth of the time of a start, and a third of that of a publish.
    What has stayed for two searches is old; the old is searched as rarely as memory allows, since that takes longest.
    """
    gc.freeze()
    gc.set_threshold(objects, 0, 200)
