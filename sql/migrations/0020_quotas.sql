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
