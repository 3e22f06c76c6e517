-- name: scope_create
-- A scope and what the consent page says for it.
with created as (
    insert into scopes (name, description, created_at) values ($name, $description, $now) returning name, description
), recorded as (
    insert into events (at, kind, detail, request_id, address, actor, proof)
    select $now, 'scope.created', jsonb_build_object('name', name),
        $request_id, $address, $actor, $proof::bytea from created
)
select * from created;

-- name: scopes_list
-- Every scope, by name.
select name, description from scopes order by name;

-- name: scope_delete
-- No longer offered.
with gone as (
    delete from scopes where name = $name returning name
), recorded as (
    insert into events (at, kind, detail, request_id, address, actor, proof)
    select $now, 'scope.deleted', jsonb_build_object('name', name),
        $request_id, $address, $actor, $proof::bytea from gone
)
select name from gone;

-- name: scope_leave_grants
-- At most $batch grants allow a scope no longer, and are locked from here on.
update grants set scopes = array_remove(scopes, $scope)
where grant_id = any (array(
    select grant_id from grants where $scope = any (scopes) and revoked_at is null order by grant_id limit $batch
    for no key update
))
returning grant_id;

-- name: scope_end_tokens
-- At most $batch access tokens that carry a scope and come from no grant end: how many.
with ended as (
    update access_tokens set revoked_at = $now
    where digest = any (array(
        select digest from access_tokens
        where $scope = any (scopes) and family_id is null and revoked_at is null and expires_at > $now
        order by digest limit $batch for update
    ))
    returning 1
)
select count(*) from ended;
