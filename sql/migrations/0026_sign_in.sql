-- How people signed in (`acr`, OpenID Connect Core, section 2), beside when they did: for routes that ask for it, and for
-- whoever is told of a token (RFC 9470, section 6). All before have signed in by their password.
alter table sessions add column acr text not null default 'password';
alter table codes add column acr text not null default 'password';
alter table families add column acr text not null default 'password';

create or replace view living_sessions as
select s.session_id, s.token_digest, s.signed_in_at, s.expires_at, u.subject, u.username, u.email, u.name, u.created_at,
    u.disabled_at, u.generation as user_generation, s.acr
from sessions s
join users u on u.subject = s.subject
where u.disabled_at is null and u.session_generation = s.generation;

create or replace view access_token_ends as
select t.digest, t.client_id, t.subject, t.scopes, t.resource, t.token_type, t.mac_key, t.mac_algorithm, t.issued_at,
    t.expires_at, c.mac_drafts, u.username, u.email, t.family_id, f.grant_id,
    case
        when t.revoked_at is not null then 'revoked'
        when c.client_id is null then 'of a deleted client'
        when c.disabled_at is not null then 'of a disabled client'
        when t.subject is not null and u.subject is null then 'of a deleted user'
        when t.subject is not null and u.disabled_at is not null then 'of a disabled user'
        when c.generation <> t.client_generation or (t.subject is not null and u.generation <> t.user_generation)
            or (t.family_id is not null
                and coalesce(f.revoked_at is not null or g.revoked_at is not null or not f.scopes <@ g.scopes, true))
            then 'revoked'
        when t.subject is not null and c.allow_groups <> '{}' and not c.allow_groups && u.groups
            then 'of a user who may not use the client'
    end as ended,
    t.jkt, u.groups, f.auth_time, case when f.auth_time is not null then f.acr end as acr
from access_tokens t
left join clients c on c.client_id = t.client_id
left join users u on u.subject = t.subject
left join families f on f.family_id = t.family_id
left join grants g on g.grant_id = f.grant_id;

create or replace view living_access_tokens as
select digest, client_id, subject, scopes, resource, token_type, mac_key, mac_algorithm, issued_at, expires_at,
    mac_drafts, username, email, family_id, grant_id, jkt, groups, auth_time, acr
from access_token_ends
where ended is null;
