-- Further databases that nonces are spread over (`gateway/guard/spread.py`).
--
-- Each database has a name of its own, by which the layouts know it, wherever it moves: a copy that is not a standby
-- needs another one (`update nonce_database set name = gen_random_uuid()`).
create table nonce_database (
    singleton boolean primary key default true,
    name text not null default gen_random_uuid()::text,
    constraint nonce_database_singleton_check check (singleton)
);
insert into nonce_database default values;

-- The layouts, of which those in the main database count: the names of the databases that nonces with a timestamp from
-- `from_second` on are spread over, '' for the main one; without any it is the only one. A row is never altered, and
-- added so long before its time that every worker knows it by then. Who adds one holds the advisory lock "nonl",
-- 1852796524, and who reads them shares it: so a reading that lacks a layout was before the moment that it was made.
create table nonce_layouts (
    from_second bigint primary key,
    databases text[] not null,
    constraint nonce_layouts_databases_check check (cardinality(databases) > 0)
);
