-- How often routes are called, as far as their limits count it.

-- A bucket of calls that all workers take from (`gateway/guard/bucket.py`): when it will be full if nothing more is
-- taken, which is in the past for most and never in it for long; and how many calls were asked for lately, falling to a
-- third in a second. One that is full is as good as none. It is not worth a write to the disk: what a crash forgets of
-- it, limits let pass once more. The updated row stays on its page, as no index holds what changes.
create unlogged table rate_buckets (
    key bytea not null,
    full_at timestamptz not null,
    demand double precision not null,
    told_at timestamptz not null,
    constraint rate_buckets_pkey primary key (key)
) with (fillfactor = 50);
alter table rate_buckets alter column key set storage plain;

-- The workers that take from buckets, each under an identifier of its own, and when they were last heard of: in how
-- many parts a bucket is divided while nobody hears of the others.
create unlogged table rate_workers (
    worker bytea not null,
    seen_at timestamptz not null,
    constraint rate_workers_pkey primary key (worker)
);
alter table rate_workers alter column worker set storage plain;

-- How many of a day's calls have been given out to workers (`gateway/guard/lease.py`), by whom they count for, as 16
-- bytes. A call passes only after it was written here, so none is forgotten with a worker or in a crash. `asked` and
-- `given` are what the last worker asked for and got. The day is that of UTC.
create table quotas (
    day date not null,
    key bytea not null,
    most bigint not null,
    taken bigint not null,
    asked bigint not null,
    given bigint not null,
    constraint quotas_pkey primary key (day, key)
) with (fillfactor = 70);
alter table quotas alter column key set storage plain;
