-- requires: 2
--
-- A removed entry counts where it stood, no longer at the end of its hole.

-- Of what kind removed entries were: n of them in a row, the first of which stood at first. No row reaches across a
-- multiple of 1000.
CREATE TABLE taskcast.removed (
    task BIGINT NOT NULL,
    first BIGINT NOT NULL,
    n BIGINT NOT NULL,
    kind INTEGER NOT NULL,
    PRIMARY KEY (task, first)
);

-- Of the holes that are there, only the counts are known: kind after kind is as good as any other order.
INSERT INTO taskcast.removed (task, first, n, kind)
SELECT task, greatest(start, span), least(stop, span + 1000) - greatest(start, span), kind
FROM (
    SELECT task, kind, (upto - n)::bigint AS start, upto::bigint AS stop FROM (
        SELECT h.task, (c.value ->> 0)::integer AS kind, (c.value ->> 1)::bigint AS n,
            h.first + sum((c.value ->> 1)::bigint) OVER (PARTITION BY h.task, h.first ORDER BY c.place) AS upto
        FROM taskcast.holes h CROSS JOIN LATERAL jsonb_array_elements(h.counts::jsonb) WITH ORDINALITY AS c (value, place)
    ) AS counted
) AS runs CROSS JOIN LATERAL generate_series(start - start % 1000, stop - 1, 1000) AS span;

-- A checkpoint inside a hole said what there was before the hole.
DELETE FROM taskcast.checkpoints c USING taskcast.holes h WHERE c.task = h.task AND c.idx > h.first AND c.idx <= h.last;
