-- name: scope_create
-- A scope and what the consent page says for it.
with created as (
    insert into scopes (name, description, created_at) values ($1, $2, $3) returning name, description
), recorded as (
    insert into events (at, kind, detail)
    select $3, 'scope.created', jsonb_build_object('name', name) from created
)
select * from created;

-- name: scopes_list
-- Every scope, by name.
select name, description from scopes order by name;

-- name: scope_delete
-- No longer offered; tokens that carry it keep it until they end.
with gone as (
    delete from scopes where name = $1 returning name
), recorded as (
    insert into events (at, kind, detail) select $2, 'scope.deleted', jsonb_build_object('name', name) from gone
)
select name from gone;
