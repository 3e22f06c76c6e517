-- name: schema_lock
-- Who migrates or restores; until the end of the transaction.
select pg_advisory_xact_lock($lock);

-- name: migration_note
-- A migration that was applied just now.
insert into schema_migrations (name, checksum) values ($name, $checksum);

-- name: schema_owner
-- The schema that our tables are in, and whose they are; nothing where there are none.
select c.relnamespace::regnamespace::text as schema, quote_ident(pg_get_userbyid(c.relowner)) as owner
from pg_class c where c.oid = to_regclass('schema_migrations');

-- name: schema_may_be_made
-- Whether who is connected may make a schema in the database, and the names of both.
select quote_ident(current_user) as role, quote_ident(current_database()) as database,
    has_database_privilege(current_database(), 'CREATE') as may;

-- name: schema_objects
-- Those of the tables, views and functions $names that are in a schema; views before tables, which go first.
select case c.relkind when 'v' then 'view' else 'table' end as kind, quote_ident(c.relname) as name
from pg_class c
where c.relnamespace = $schema::text::regnamespace and c.relname = any ($names::text[])
    and c.relkind in ('r', 'p', 'v') and not c.relispartition
union all
select 'function', format('%I(%s)', p.proname, pg_get_function_identity_arguments(p.oid))
from pg_proc p
where p.pronamespace = $schema::text::regnamespace and p.proname = any ($names::text[])
order by kind desc, name;

-- name: schema_grants
-- What others may do with them, as the statements that say it of those that take their place.
select format('grant %s on %s to %s', a.privilege_type, o.name,
    case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end)
from (
    select quote_ident(c.relname) as name, c.relacl as acl, c.relowner as owner
    from pg_class c where c.relnamespace = $schema::text::regnamespace and c.relkind in ('r', 'p', 'v')
        and (c.relname = any ($names::text[]) or c.relispartition)
    union all
    select format('function %I(%s)', p.proname, pg_get_function_identity_arguments(p.oid)), p.proacl, p.proowner
    from pg_proc p where p.pronamespace = $schema::text::regnamespace and p.proname = any ($names::text[])
) as o, aclexplode(o.acl) as a
where a.grantee <> o.owner;

-- name: schema_references
-- Which table refers to which other one.
select distinct conrelid::regclass::text as name, confrelid::regclass::text as to
from pg_constraint
where contype = 'f' and connamespace = current_schema()::regnamespace and conrelid <> confrelid;

-- name: schema_identities
-- The identity columns, each with its table.
select attrelid::regclass::text as name, attname::text as column
from pg_attribute join pg_class c on c.oid = attrelid
where attidentity <> '' and not attisdropped and c.relnamespace = current_schema()::regnamespace;

-- name: table_columns
-- The columns of a table.
select attname::text from pg_attribute where attrelid = $name::text::regclass and attnum > 0 and not attisdropped;

-- name: tables_kept
-- Those of the tables $names that are there, each with the columns that a backup holds.
select c.relname as name, array_agg(a.attname::text order by a.attnum) as columns
from pg_class c
join pg_class history on history.oid = to_regclass('schema_migrations') and history.relnamespace = c.relnamespace
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
where c.relkind = 'r' and not c.relispartition and c.relname = any ($names::text[])
group by c.relname
order by c.relname;

-- name: lineage
-- The moment of a database's first migration, to the microsecond, which is restored with it.
select to_char(applied_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US')
from schema_migrations order by name limit 1;

-- name: nonce_floor_raise
-- No timestamp before $floor counts any more, nor before $before, of the database that was replaced.
update nonce_floor set floor = greatest($floor::bigint, $before::bigint),
    timeline = left(pg_walfile_name(pg_current_wal_lsn()), 8)
returning floor;

-- name: changes_skip
-- Who has read up to $id misses what comes next, and knows it.
insert into changes (id, kind, key) overriding system value values ($id::bigint + 2, 'all', '');

-- name: restore_record
-- The event of a restore.
insert into events (at, kind, detail, request_id, address, actor, proof)
values (clock_timestamp(), 'database.restored', $detail, $request_id, $address, $actor, $proof);

-- name: schema_place
-- Where our tables are, by the way that names are found or elsewhere, whose they are, and who asks.
select n.oid, quote_ident(n.nspname) as name, quote_ident(current_user) as role, quote_ident(owner.rolname) as owner,
    has_schema_privilege(n.oid, 'USAGE') as usable
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
join pg_roles owner on owner.oid = c.relowner
where c.relname = 'schema_migrations' and c.relkind = 'r'
order by c.oid = coalesce(to_regclass('schema_migrations'), 0) desc, c.oid
limit 1;

-- name: privileges_lacking
-- The privileges that who asks lacks on those of $names that are in a schema, and on their partitions and
-- sequences.
with named as (
    select c.oid, c.relname, c.relkind, c.relispartition from pg_class c
    where c.relnamespace = $namespace and c.relkind in ('r', 'p', 'v') and c.relname = any ($names::text[])
), ours as (
    select * from named
    union
    select c.oid, c.relname, c.relkind, c.relispartition
    from named join pg_inherits i on i.inhparent = named.oid join pg_class c on c.oid = i.inhrelid
), tables as (
    select oid, '' as kind, quote_ident(relname) as object, privilege
    from ours, unnest(case
        when relkind = 'v' or relname = 'schema_migrations' then array['SELECT']
        when relispartition then array['TRUNCATE']
        else array['SELECT', 'INSERT', 'UPDATE', 'DELETE']
    end) as privilege
    where not has_table_privilege(oid, privilege)
), sequences as (
    select s.oid, 'SEQUENCE ', quote_ident(s.relname), 'USAGE'
    from pg_class s
    join pg_depend d on d.objid = s.oid and d.classid = 'pg_class'::regclass and d.deptype = 'a'
    join ours on ours.oid = d.refobjid
    where case when s.relkind = 'S' then not has_sequence_privilege(s.oid, 'USAGE') end
), functions as (
    select p.oid, 'FUNCTION ', format('%I(%s)', p.proname, pg_get_function_identity_arguments(p.oid)), 'EXECUTE'
    from pg_proc p
    where p.pronamespace = $namespace and p.proname = any ($names::text[]) and not has_function_privilege(p.oid, 'EXECUTE')
)
select kind, object, privilege
from (select * from tables union all select * from sequences union all select * from functions) as lacking
order by kind, oid, privilege;
