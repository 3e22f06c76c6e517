-- name: uses_note
-- Access tokens that were used, and the grants that they came from. What somebody else is writing is passed by.
with due as (
    select digest, family_id from access_tokens
    where digest = any ($digests::bytea[])
        and (last_used_at is null or last_used_at < $now::timestamptz - interval '4 minutes')
    order by digest for no key update skip locked
), used as (
    update access_tokens t set last_used_at = $now from due where t.digest = due.digest
), granted as (
    select grant_id from grants
    where grant_id = any (array(select f.grant_id from families f where f.family_id = any (
            array(select family_id from due))))
        and (last_used_at is null or last_used_at < $now::timestamptz - interval '4 minutes')
    order by grant_id for no key update skip locked
)
update grants g set last_used_at = $now from granted where g.grant_id = granted.grant_id;

-- name: scope_uses_note
-- Scopes that clients used. Always in the same order, so that workers never wait for each other in a circle.
insert into scope_uses as u (client_id, scope, used_at)
select n.client_id, n.scope, $now
from unnest($client_ids::text[], $names::text[]) as n (client_id, scope)
join clients c on c.client_id = n.client_id
order by n.client_id, n.scope
on conflict (client_id, scope) do update set used_at = excluded.used_at
where u.used_at < excluded.used_at - interval '4 minutes';

-- name: tokens_list
-- Tokens that live, the newest first: those that fit, where null fits all. A refresh token lives until it is used.
with fitting as (
    select 'access' as kind, l.digest, l.client_id, l.subject, l.username, l.scopes, l.issued_at, l.expires_at,
        t.last_used_at, l.token_type
    from living_access_tokens l
    join access_tokens t on t.digest = l.digest
    union all
    select 'refresh', r.digest, f.client_id, f.subject, f.username, f.scopes, r.issued_at, r.expires_at,
        null::timestamptz, null
    from refresh_tokens r
    join living_families f on f.family_id = r.family_id
    where r.spent_at is null
)
select f.*, c.name as client_name
from fitting f
join clients c on c.client_id = f.client_id
where f.expires_at > $now
    and ($subject::text is null or f.subject = $subject) and ($client_id::text is null or f.client_id = $client_id)
    and ($scope::text is null or $scope = any (f.scopes))
    and ($issued_before::timestamptz is null or f.issued_at <= $issued_before)
    and ($unused_since::timestamptz is null or coalesce(f.last_used_at, f.issued_at) <= $unused_since)
order by f.issued_at desc, f.digest limit $most;

-- name: tokens_beginning
-- The digests of tokens from $least to $greatest, dead ones too: two of them at most.
(select digest from access_tokens where digest between $least and $greatest order by digest limit 2)
union
(select digest from refresh_tokens where digest between $least and $greatest order by digest limit 2)
limit 2;

-- name: grants_find
-- What people allow clients today, the newest first: those that fit, where null fits all.
select g.grant_id, g.subject, u.username, g.client_id, c.name as client_name, g.scopes, g.resource, g.created_at,
    g.updated_at, g.last_used_at
from grants g
join users u on u.subject = g.subject
join clients c on c.client_id = g.client_id
where g.revoked_at is null
    and ($subject::text is null or g.subject = $subject) and ($client_id::text is null or g.client_id = $client_id)
    and ($scope::text is null or $scope = any (g.scopes))
    and ($issued_before::timestamptz is null or g.created_at <= $issued_before)
    and ($unused_since::timestamptz is null or coalesce(g.last_used_at, g.updated_at) <= $unused_since)
order by g.created_at desc, g.grant_id limit $most;

-- name: grants_revoke
-- Ends grants, one or those of a person or a client or of both, $batch at a time, since nobody else can end anything
-- while the change log is written; and by the join all that was issued from them.
with ended as (
    update grants set revoked_at = $now
    where grant_id = any (array(
        select grant_id from grants
        where revoked_at is null and ($grant_id::text is null or grant_id = $grant_id)
            and ($subject::text is null or subject = $subject) and ($client_id::text is null or client_id = $client_id)
        order by grant_id limit $batch for update
    ))
    returning grant_id, subject, client_id, scopes
), recorded as (
    insert into events (at, kind, subject, client_id, detail, request_id, address, actor, proof)
    select $now, 'grant.withdrawn', subject, client_id, jsonb_build_object('grant_id', grant_id, 'scopes', scopes),
        $request_id, $address, $actor, $proof::bytea
    from ended
)
select count(*) from ended;

-- name: sessions_list
-- Browsers that are signed in, the newest first: those that fit, where null fits all.
select l.session_id, l.subject, l.username, l.signed_in_at, l.expires_at, s.last_used_at, s.address, s.user_agent
from living_sessions l
join sessions s on s.session_id = l.session_id
where l.expires_at > $now and ($subject::text is null or l.subject = $subject)
    and ($issued_before::timestamptz is null or l.signed_in_at <= $issued_before)
    and ($unused_since::timestamptz is null or coalesce(s.last_used_at, l.signed_in_at) <= $unused_since)
order by l.signed_in_at desc, l.session_id limit $most;

-- name: sessions_revoke
-- Signs browsers out, one or all of a person.
with gone as (
    delete from sessions
    where ($session_id::text is null or session_id = $session_id) and ($subject::text is null or subject = $subject)
    returning session_id, subject
), recorded as (
    insert into events (at, kind, subject, detail, request_id, address, actor, proof)
    select $now, 'session.ended', subject, jsonb_build_object('session_id', session_id),
        $request_id, $address, $actor, $proof::bytea
    from gone
)
select count(*) from gone;

-- name: scopes_unused
-- Scopes that a client may ask for and used no more since $before, if it is that old; and how many grants have them.
-- No route demands offline_access.
select c.client_id, c.name as client_name, s.scope, u.used_at as last_used_at, c.created_at,
    (
        select count(*) from grants g
        where g.client_id = c.client_id and g.revoked_at is null and s.scope = any (g.scopes)
    ) as grants
from clients c
cross join lateral unnest(c.scopes) as s (scope)
left join scope_uses u on u.client_id = c.client_id and u.scope = s.scope
where c.disabled_at is null and c.created_at <= $before and coalesce(u.used_at <= $before, true)
    and s.scope <> 'offline_access'
order by u.used_at nulls first, c.name, c.client_id, s.scope;

-- name: scope_uses_since
-- Since when it is written down which scopes are used.
select min(applied_at) from schema_migrations;
