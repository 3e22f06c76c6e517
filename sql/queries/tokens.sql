-- name: code_find
-- One row of what a client comes with to redeem a code: the client, also a disabled one, and the code with all that it
-- hangs on, whosever it is.
select c.*, l.name as logo, o.username as owner_username, o.name as owner_name, k.request, k.scopes as code_scopes,
    k.expires_at, k.spent_at, k.family_id, k.client_generation, k.user_generation, k.session_id, k.auth_time, k.acr,
    k.subject, k.ended
from (values (1)) as redemption
left join clients c on c.client_id = $client_id
left join client_logos l on l.client_id = c.client_id
left join users o on o.subject = c.owner
left join (
    select k.*, g.subject,
        case
            when c.disabled_at is not null then 'of a disabled client'
            when u.disabled_at is not null then 'of a disabled user'
            when g.revoked_at is not null or c.generation <> k.client_generation or u.generation <> k.user_generation
                or not k.scopes <@ g.scopes then 'revoked'
            when c.allow_groups <> '{}' and not c.allow_groups && u.groups then 'of a user who may not use the client'
            -- A sign-in ends with its session, unless it is also for while the person is away.
            when k.session_id is not null and 'openid' = any (k.scopes) and not 'offline_access' = any (k.scopes)
                and not exists (select from sessions s where s.session_id = k.session_id) then 'revoked'
        end as ended
    from codes k
    join grants g on g.grant_id = k.grant_id
    join clients c on c.client_id = g.client_id
    join users u on u.subject = g.subject
) as k on k.digest = $digest;

-- name: refresh_lock
-- A refresh token with all that it hangs on, locked until the transaction ends.
select r.salt, r.expires_at, r.spent_at, r.successor, r.family_id,
    f.scopes, f.resource, f.client_generation, f.user_generation, f.session_id, f.auth_time, f.acr, f.id_token_claims,
    f.jkt, g.client_id, g.subject,
    (select ended from family_ends e where e.family_id = f.family_id) as ended
from refresh_tokens r
join families f on f.family_id = r.family_id
join grants g on g.grant_id = f.grant_id
where r.digest = $digest
for update of r;

-- name: successor_find
-- Whether a successor was used. Asked under the predecessor's lock: who waited for that would not see its row before.
select spent_at is not null from refresh_tokens where digest = $digest;

-- name: tokens_issue
-- Everything that one token response writes: the access token always; from a code ($code) its family, the code spent;
-- from a refresh token ($used) that one spent; a new refresh token ($successor) where there is one. Nothing where the
-- code is another than it was when it was decided on: spent, ended earlier ($code_expires_at), or beyond its grant.
with held as (
    -- The grant does not shrink meanwhile. It is locked first, as who shrinks it does, or the two could wait for each
    -- other.
    select k.digest
    from codes k
    join grants g on g.grant_id = k.grant_id
    where k.digest = $code and k.spent_at is null and k.expires_at = $code_expires_at
        and g.revoked_at is null and k.scopes <@ g.scopes
    for share of g for update of k
), person as (
    select c.client_id, coalesce($client_generation::integer, c.generation) as client_generation,
        u.subject, coalesce($user_generation::integer, u.generation) as user_generation
    from clients c
    left join users u on u.subject = $subject and u.disabled_at is null
    where c.client_id = $client_id and c.disabled_at is null and ($subject::text is null or u.subject is not null)
        and ($code::bytea is null or exists (select from held))
), access as (
    insert into access_tokens (
        digest, client_id, subject, family_id, client_generation, user_generation, scopes, resource, token_type,
        mac_key, mac_algorithm, issued_at, expires_at, jkt
    )
    select $access_token, client_id, subject, $family_id, client_generation, user_generation, $scopes, $resource,
        $token_type, $mac_key, $mac_algorithm, $now, $access_expires_at, $jkt
    from person
    returning client_id, subject
), began as (
    insert into families (
        family_id, grant_id, scopes, resource, client_generation, user_generation, created_at, expires_at, session_id,
        auth_time, acr, id_token_claims, userinfo_claims, jkt
    )
    select $family_id, k.grant_id, k.scopes, array(select jsonb_array_elements_text(k.request -> 'resource')),
        k.client_generation, k.user_generation, $now, greatest($access_expires_at, $refresh_expires_at), k.session_id,
        k.auth_time, k.acr, array(select jsonb_array_elements_text(k.request -> 'id_token_claims')),
        array(select jsonb_array_elements_text(k.request -> 'userinfo_claims')), $family_jkt
    from codes k, access
    where k.digest = $code
), redeemed as (
    update codes set spent_at = $now, family_id = $family_id where digest = $code and exists (select from access)
), lengthened as (
    -- The first proof of a key binds what follows, where none came with the code (RFC 9449, section 5).
    update families set expires_at = greatest(expires_at, $access_expires_at, $refresh_expires_at),
        jkt = coalesce(jkt, $family_jkt)
    where family_id = $family_id and exists (select from access)
), rotated as (
    update refresh_tokens set spent_at = $now, successor = $successor
    where digest = $used and exists (select from access)
), refreshing as (
    insert into refresh_tokens (digest, family_id, salt, issued_at, expires_at)
    select $successor, $family_id, $salt, $now, $refresh_expires_at from access where $successor::bytea is not null
), used as (
    update registrations
    set expires_at = greatest($now::timestamptz + idle, $access_expires_at, $refresh_expires_at) + interval '1 day'
    where client_id = $client_id and exists (select from access)
        and expires_at < greatest($now::timestamptz + idle, $access_expires_at, $refresh_expires_at)
), recorded as (
    insert into events (at, kind, subject, client_id, detail, request_id, address, actor, proof)
    select $now, 'token.issued', subject, client_id,
        jsonb_build_object('by', $by::text, 'scopes', $scopes::text[], 'token_type', $token_type::text,
            'token', left(encode($access_token::bytea, 'hex'), 16)),
        $request_id, $address, $actor, $proof::bytea
    from access
)
select 1 from access;

-- name: family_revoke
-- Ends an issuance chain with one row, after a reuse or replay that $why names.
with ended as (
    update families set revoked_at = $now where family_id = $family_id and revoked_at is null returning grant_id
)
insert into events (at, kind, subject, client_id, request_id, address, actor, proof)
select $now, $why, g.subject, g.client_id,
    $request_id, $address, $actor, $proof::bytea from ended join grants g on g.grant_id = ended.grant_id;

-- name: access_token_find
-- A live access token: itself, its family, grant, client and person are all checked here, never before.
select client_id, subject, scopes, resource, token_type, mac_key, mac_algorithm, issued_at, expires_at, mac_drafts,
    username, email, family_id, grant_id, jkt, groups, auth_time, acr
from living_access_tokens
where digest = $digest and expires_at > $now;

-- name: family_userinfo_claims
-- The claims that a request named one by one for the UserInfo endpoint.
select userinfo_claims from families where family_id = $family_id;

-- name: access_tokens_find
-- Many access tokens, each with what ended it (null where it lives, but for its time), and the server that says so.
select digest, client_id, subject, scopes, resource, token_type, mac_key, mac_algorithm, issued_at, expires_at,
    mac_drafts, username, email, family_id, grant_id, ended, jkt, groups, auth_time, acr,
    extract(epoch from pg_postmaster_start_time())::double precision as server
from access_token_ends
where digest = any($digests::bytea[]);

-- name: access_tokens_find_on_standby
-- Those of these access tokens that live, but for their time, as far as a standby knows that has replayed the change
-- log up to the change $newest of the moment $newest_at; and whether it is a standby, and has. One row at least.
select here.standby, here.replayed, t.digest, t.client_id, t.subject, t.scopes, t.resource, t.token_type, t.mac_key,
    t.mac_algorithm, t.issued_at, t.expires_at, t.mac_drafts, t.username, t.email, t.family_id, t.grant_id, t.jkt,
    t.groups, t.auth_time, t.acr
from (
    select pg_is_in_recovery() as standby,
        exists (select from changes where id = $newest and at = $newest_at) as replayed
) as here
left join access_token_ends t on t.digest = any($digests::bytea[]) and t.ended is null and here.standby and here.replayed;

-- name: signing_token_find
-- An access token as an operator wants to know it who explains a refusal: also a dead one.
select t.digest, t.client_id, t.token_type, t.mac_key, t.mac_algorithm, t.expires_at, t.revoked_at, c.mac_drafts,
    exists (select from living_access_tokens l where l.digest = t.digest) as living
from access_tokens t
join clients c on c.client_id = t.client_id
where t.digest = $digest;

-- name: signing_tokens_of_client
-- The newest MAC tokens of a client but for one: whose key a signature may have been made with.
select digest, mac_key, issued_at
from access_tokens
where client_id = $client_id and digest <> $digest and mac_key is not null
order by issued_at desc
limit $most;

-- name: refresh_token_find
-- A live refresh token, checked in the same way; $client_id is whose it must be, null for the operator.
select f.client_id, f.subject, f.scopes, f.resource, r.issued_at, r.expires_at, f.username,
    (select b.jkt from families b where b.family_id = r.family_id) as jkt, null::timestamptz as auth_time, null as acr
from refresh_tokens r
join living_families f on f.family_id = r.family_id
where r.digest = $digest and r.expires_at > $now and r.spent_at is null
    and coalesce(f.client_id = $client_id, true);

-- name: token_explain
-- All that there is of a token, dead or alive, and all that may have ended it: for an operator.
with found as (
    select 'access_token' as kind, t.client_id, t.subject, t.scopes, t.issued_at, t.expires_at, t.revoked_at,
        null::timestamptz as spent_at, t.client_generation, t.user_generation, t.family_id
    from access_tokens t
    where t.digest = $digest
    union all
    select 'refresh_token', g.client_id, g.subject, f.scopes, r.issued_at, r.expires_at, null, r.spent_at,
        f.client_generation, f.user_generation, f.family_id
    from refresh_tokens r
    join families f on f.family_id = r.family_id
    join grants g on g.grant_id = f.grant_id
    where r.digest = $digest
)
select t.*, c.name as client_name, u.username, c.disabled_at as client_disabled_at, u.disabled_at as user_disabled_at,
    c.generation <> t.client_generation as client_ended, u.generation <> t.user_generation as user_ended,
    f.revoked_at as family_ended_at, g.revoked_at as grant_ended_at, g.scopes as granted
from found t
join clients c on c.client_id = t.client_id
left join users u on u.subject = t.subject
left join families f on f.family_id = t.family_id
left join grants g on g.grant_id = f.grant_id;

-- name: token_revoke
-- An access token ends by itself, a refresh token with its family; $client_id is whose it must be, null for the
-- operator.
with access as (
    update access_tokens set revoked_at = $now
    where digest = $digest and revoked_at is null and coalesce(client_id = $client_id, true)
    returning client_id, subject
), family as (
    update families f set revoked_at = $now
    from grants g
    where f.family_id = (select family_id from refresh_tokens where digest = $digest) and f.revoked_at is null
        and g.grant_id = f.grant_id and coalesce(g.client_id = $client_id, true)
    returning g.client_id, g.subject
), ended as (
    select client_id, subject from access union all select client_id, subject from family
), recorded as (
    insert into events (at, kind, subject, client_id, detail, request_id, address, actor, proof)
    select $now, 'token.revoked', subject, client_id, jsonb_build_object('token', left(encode($digest, 'hex'), 16)),
        $request_id, $address, $actor, $proof::bytea
    from ended
)
select 1 from ended;
