-- Version 2 of the SQLite store's file: a removed entry counts where it stood, no longer at the end of its hole.
--
-- Of what kind removed entries were: n of them in a row, the first of which stood at pos (see entries). No row reaches
-- across a multiple of the checkpoints' span. So positions are the same before and after a removal, inside holes, too.
CREATE TABLE removed (
    pos INTEGER PRIMARY KEY,
    n INTEGER NOT NULL,
    kind INTEGER NOT NULL
);
