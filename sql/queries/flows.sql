-- name: flow_find
-- A flow that the person whose session this is has answered, with the answer. A code is `usable` until it is spent,
-- expires or is revoked.
select f.*, k.spent_at is not null as spent,
    coalesce(k.spent_at is null and k.expires_at > $now and g.revoked_at is null
        and k.user_generation = s.user_generation and k.client_generation = c.generation, false) as usable
from flows f
join living_sessions s on s.subject = f.subject
join clients c on c.client_id = f.client_id
left join codes k on k.digest = f.code_digest
left join grants g on g.grant_id = k.grant_id
where f.flow_id = $flow_id and s.session_id = $session_id and f.decision is not null and f.expires_at > $now
    and s.expires_at > $now and c.disabled_at is null;

-- name: flow_allow
-- AwaitingConsent → Granted → a code, once: the flow's row begins with its answer, and who comes second finds it there.
-- By the database's clock too it is not over, so that no answer counts whose row may have been swept already.
-- Of the scopes that were asked for, the grant keeps those that were allowed now; of others, what it had. The grant is
-- locked from here on; before it whom it is about, as who deletes them does, or the two could wait for each other.
with person as (
    select s.subject, s.user_generation, s.session_id, s.signed_in_at, s.acr, c.client_id,
        c.generation as client_generation
    from living_sessions s
    join users u on u.subject = s.subject
    join clients c on c.client_id = $client_id
    where s.session_id = $session_id and s.subject = $subject and s.expires_at > $now and c.disabled_at is null
        and $flow_expires_at > greatest($now, now()) and to_jsonb($allowed::text[]) <@ ($request::jsonb -> 'scopes')
    for key share of u, c
), decided as (
    insert into flows (
        flow_id, subject, client_id, request, created_at, expires_at, decision, allowed, code_digest, sealed_code
    )
    select $flow_id, subject, client_id, $request, $now, $flow_expires_at, 'granted', $allowed, $code, $sealed_code
    from person
    on conflict (flow_id) do nothing
    returning subject, client_id, request
), granted as (
    insert into grants as g (grant_id, subject, client_id, resource, scopes, created_at, updated_at)
    select $grant_id, subject, client_id, array(select jsonb_array_elements_text(request -> 'resource') order by 1),
        $allowed, $now, $now
    from decided
    on conflict (subject, client_id, resource) where revoked_at is null do update set
        scopes = array(
            (select unnest(g.scopes) except select jsonb_array_elements_text(d.request -> 'scopes') from decided d)
            union select unnest(excluded.scopes)
            order by 1
        ),
        updated_at = $now
    returning g.grant_id
), issued as (
    insert into codes (
        digest, grant_id, request, scopes, client_generation, user_generation, issued_at, expires_at, session_id,
        auth_time, acr
    )
    select $code, g.grant_id, $request, $allowed, p.client_generation, p.user_generation, $now, $expires_at,
        p.session_id, p.signed_in_at, p.acr
    from person p, granted g
    returning digest
), recorded as (
    insert into events (at, kind, subject, client_id, detail, request_id, address, actor, proof)
    select $now, 'consent.given', subject, client_id,
        jsonb_build_object('scopes', $allowed::text[], 'resource', request -> 'resource'),
        $request_id, $address, $actor, $proof::bytea
    from decided
)
select grant_id from granted where exists (select from issued);

-- name: grants_end_beyond
-- What came from these grants and goes beyond what they allow now ends for good. They were locked by the statement
-- before: who redeems a code holds its grant, so that no family is overlooked.
with unspent as (
    -- Earlier than it was, also where it is over already: so that whoever redeems it sees that it has ended.
    update codes k set expires_at = least(k.expires_at, $now) - interval '1 microsecond'
    where k.grant_id = any ($grant_ids::text[]) and k.spent_at is null
        and not k.scopes <@ (select scopes from grants g where g.grant_id = k.grant_id)
)
update families f set revoked_at = $now
where f.grant_id = any ($grant_ids::text[]) and f.revoked_at is null
    and not f.scopes <@ (select scopes from grants g where g.grant_id = f.grant_id);

-- name: flow_deny
-- AwaitingConsent → Denied, once. Whom it is about is locked, so that it is nothing when they are being deleted.
with person as (
    select s.subject, c.client_id
    from living_sessions s
    join users u on u.subject = s.subject
    join clients c on c.client_id = $client_id
    where s.session_id = $session_id and s.subject = $subject and s.expires_at > $now
        and $flow_expires_at > greatest($now, now())
    for key share of u, c
), decided as (
    insert into flows (flow_id, subject, client_id, request, created_at, expires_at, decision)
    select $flow_id, subject, client_id, $request, $now, $flow_expires_at, 'denied'
    from person
    on conflict (flow_id) do nothing
    returning client_id, subject
), recorded as (
    insert into events (at, kind, subject, client_id, request_id, address, actor, proof)
    select $now, 'consent.denied', subject, client_id, $request_id, $address, $actor, $proof::bytea from decided
)
select 1 from decided;

-- name: code_issue
-- A code without asking: from a grant that covers it, or one that is written now ($remember, a first-party client).
-- Whom it is about is locked, as above.
with person as (
    select s.subject, s.user_generation, s.session_id, s.signed_in_at, s.acr, c.client_id,
        c.generation as client_generation,
        array(select jsonb_array_elements_text($request::jsonb -> 'scopes') order by 1) as scopes,
        array(select jsonb_array_elements_text($request::jsonb -> 'resource') order by 1) as resource
    from living_sessions s
    join users u on u.subject = s.subject
    join clients c on c.client_id = $client_id
    where s.session_id = $session_id and s.expires_at > $now and c.disabled_at is null
    for key share of u, c
), written as (
    insert into grants as g (grant_id, subject, client_id, resource, scopes, created_at, updated_at)
    select $grant_id, subject, client_id, resource, scopes, $now, $now from person where $remember::boolean
    on conflict (subject, client_id, resource) where revoked_at is null do update set
        scopes = array(select unnest(g.scopes) union select unnest(excluded.scopes) order by 1),
        updated_at = $now
    returning g.grant_id
), standing as (
    select g.grant_id
    from grants g
    join person p on p.subject = g.subject and p.client_id = g.client_id and p.resource = g.resource
    where g.revoked_at is null and p.scopes <@ g.scopes and not $remember
), issued as (
    insert into codes (
        digest, grant_id, request, scopes, client_generation, user_generation, issued_at, expires_at, session_id,
        auth_time, acr
    )
    select $code, g.grant_id, $request, p.scopes, p.client_generation, p.user_generation, $now, $expires_at,
        p.session_id, p.signed_in_at, p.acr
    from person p, (select grant_id from written union all select grant_id from standing) g
    returning digest
), recorded as (
    insert into events (at, kind, subject, client_id, detail, request_id, address, actor, proof)
    select $now, 'consent.assumed', subject, client_id, jsonb_build_object('scopes', scopes),
        $request_id, $address, $actor, $proof::bytea
    from person
    where exists (select from issued)
)
select 1 from issued;

-- name: grant_scopes
-- What a person has allowed a client at just these resources.
select scopes
from grants
where subject = $subject and client_id = $client_id and revoked_at is null
    and resource = array(select unnest($resource::text[]) order by 1);

-- name: grants_list
-- The applications that a person has allowed something, by name.
select g.grant_id, g.subject, g.client_id, c.name as client_name, g.resource, g.scopes, g.created_at, g.updated_at,
    g.last_used_at, c.verified, c.redirect_uris, c.description, c.owner, c.homepage, c.privacy, c.terms,
    l.name as logo, o.username as owner_username, o.name as owner_name
from grants g
join clients c on c.client_id = g.client_id
left join client_logos l on l.client_id = c.client_id
left join users o on o.subject = c.owner
where g.subject = $subject and g.revoked_at is null
order by lower(c.name), g.client_id, g.resource;

-- name: grant_withdraw
-- Ends what a person allowed a client, for whatever resource, and by the join all that was issued from it.
with ended as (
    update grants set revoked_at = $now
    where subject = $subject and client_id = $client_id and revoked_at is null
    returning subject, client_id
), recorded as (
    insert into events (at, kind, subject, client_id, request_id, address, actor, proof)
    select distinct $now::timestamptz, 'grant.withdrawn', subject, client_id,
        $request_id, $address, $actor, $proof::bytea from ended
)
select 1 from ended limit 1;

-- name: grant_withdrawn
-- The name of a client from which a person withdrew what it had, at $since or later, and which has nothing now.
with theirs as materialized (
    select client_id, revoked_at from grants where subject = $subject
)
select c.name
from clients c
where c.client_id = $client_id
    and exists (select from theirs t where t.client_id = c.client_id and t.revoked_at >= $since)
    and not exists (select from theirs t where t.client_id = c.client_id and t.revoked_at is null);
