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
-- The newest are judged one by one, until there are enough.
with theirs as (
    select grant_id from grants where subject = $subject
    union all
    select grant_id from grants where $subject::text is null and client_id = $client_id
), named as (
    select 'access' as kind, digest, family_id, issued_at, expires_at, last_used_at, scopes
    from access_tokens where subject = $subject
    union all
    select 'access', digest, family_id, issued_at, expires_at, last_used_at, scopes
    from access_tokens where $subject::text is null and client_id = $client_id
    union all
    select 'access', digest, family_id, issued_at, expires_at, last_used_at, scopes
    from access_tokens where $subject::text is null and $client_id::text is null
    union all
    select 'refresh', digest, family_id, issued_at, expires_at, null, null
    from (select * from refresh_tokens where spent_at is null offset 0) as r
    join unnest(array(
        select family_id from theirs
        cross join lateral (select family_id from families where grant_id = theirs.grant_id offset 0) as f
    )) as f (family_id) using (family_id)
    union all
    select 'refresh', digest, family_id, issued_at, expires_at, null, null
    from refresh_tokens where $subject::text is null and $client_id::text is null and spent_at is null
), newest as (
    select * from (select * from named offset 0) as n
    where expires_at > $now and ($issued_before::timestamptz is null or issued_at <= $issued_before)
        and ($unused_since::timestamptz is null or coalesce(last_used_at, issued_at) <= $unused_since)
        and ($scope::text is null or scopes is null or $scope = any (scopes))
    order by issued_at desc, digest offset 0
)
select n.kind, n.digest, l.client_id, l.subject, l.username, l.scopes, n.issued_at, n.expires_at, n.last_used_at,
    l.token_type, c.name as client_name
from newest n
cross join lateral (
    select client_id, subject, username, scopes, token_type
    from living_access_tokens where n.kind = 'access' and digest = n.digest
    union all
    select client_id, subject, username, scopes, null
    from living_families where n.kind = 'refresh' and family_id = n.family_id
    offset 0
) as l
cross join lateral (select name from clients where client_id = l.client_id offset 0) as c
where ($client_id::text is null or l.client_id = $client_id) and ($scope::text is null or $scope = any (l.scopes))
order by n.issued_at desc, n.digest limit $most;

-- name: tokens_beginning
-- The digests of tokens from $least to $greatest, dead ones too: two of them at most.
(select digest from access_tokens where digest between $least and $greatest order by digest limit 2)
union
(select digest from refresh_tokens where digest between $least and $greatest order by digest limit 2)
limit 2;

-- name: grants_find
-- What people allow clients today, the newest first: those that fit, where null fits all.
with named as (
    select * from grants where subject = $subject
    union all
    select * from grants where $subject::text is null and client_id = $client_id
    union all
    select * from grants where $subject::text is null and $client_id::text is null
), newest as (
    select * from (select * from named offset 0) as n
    where revoked_at is null and ($client_id::text is null or client_id = $client_id)
        and ($scope::text is null or $scope = any (scopes))
        and ($issued_before::timestamptz is null or created_at <= $issued_before)
        and ($unused_since::timestamptz is null or coalesce(last_used_at, updated_at) <= $unused_since)
    order by created_at desc, grant_id limit $most
)
select g.grant_id, g.subject, u.username, g.client_id, c.name as client_name, g.scopes, g.resource, g.created_at,
    g.updated_at, g.last_used_at
from newest g
cross join lateral (select username from users where subject = g.subject offset 0) as u
cross join lateral (select name from clients where client_id = g.client_id offset 0) as c
order by g.created_at desc, g.grant_id;

-- name: grants_revoke
-- Ends grants, one or those of a person or a client or of both, $batch at a time, since nobody else can end anything
-- while the change log is written; and by the join all that was issued from them.
with named as (
    select * from grants where grant_id = $grant_id
    union all
    select * from grants where $grant_id::text is null and subject = $subject
    union all
    select * from grants where $grant_id::text is null and $subject::text is null and client_id = $client_id
), ended as (
    update grants set revoked_at = $now
    where grant_id = any (array(
        select g.grant_id
        from (
            select grant_id from (select * from named offset 0) as n
            where ($subject::text is null or subject = $subject) and ($client_id::text is null or client_id = $client_id)
            order by grant_id
        ) as n
        cross join lateral (
            select grant_id from grants where grant_id = n.grant_id and revoked_at is null for update
        ) as g
        limit $batch
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
-- Browsers that are signed in, the newest first: those that fit, where null fits all. The newest are judged one by one.
with named as (
    select * from sessions where subject = $subject
    union all
    select * from sessions where $subject::text is null
), newest as (
    select * from (select * from named offset 0) as n
    where expires_at > $now and ($issued_before::timestamptz is null or signed_in_at <= $issued_before)
        and ($unused_since::timestamptz is null or coalesce(last_used_at, signed_in_at) <= $unused_since)
    order by signed_in_at desc, session_id offset 0
)
select n.session_id, l.subject, l.username, n.signed_in_at, n.expires_at, n.last_used_at, n.address, n.user_agent
from newest n
cross join lateral (select subject, username from living_sessions where session_id = n.session_id offset 0) as l
order by n.signed_in_at desc, n.session_id limit $most;

-- name: sessions_revoke
-- Signs browsers out, one or all of a person.
with named as (
    select session_id from sessions where session_id = $session_id
    union all
    select session_id from sessions where $session_id::text is null and subject = $subject
), gone as (
    delete from sessions
    where session_id = any (array(select session_id from named)) and ($subject::text is null or subject = $subject)
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
