-- What ended an access token or a refresh family, for the operator's log: null while it lives, but for its time. The
-- views of what lives rest on these, so that what a life hangs on is still said in one place.
--
-- An end reads "revoked", or "of a disabled client" and the like, which follows the noun in a sentence.

create view access_token_ends as
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
    end as ended
from access_tokens t
left join clients c on c.client_id = t.client_id
left join users u on u.subject = t.subject
left join families f on f.family_id = t.family_id
left join grants g on g.grant_id = f.grant_id;

create or replace view living_access_tokens as
select digest, client_id, subject, scopes, resource, token_type, mac_key, mac_algorithm, issued_at, expires_at,
    mac_drafts, username, email, family_id, grant_id
from access_token_ends
where ended is null;

create view family_ends as
select f.family_id, f.scopes, f.resource, f.expires_at, g.client_id, g.subject, u.username,
    case
        when c.client_id is null then 'of a deleted client'
        when c.disabled_at is not null then 'of a disabled client'
        when u.subject is null then 'of a deleted user'
        when u.disabled_at is not null then 'of a disabled user'
        when f.revoked_at is not null or g.revoked_at is not null or not f.scopes <@ g.scopes
            or c.generation <> f.client_generation or u.generation <> f.user_generation then 'revoked'
    end as ended
from families f
join grants g on g.grant_id = f.grant_id
left join clients c on c.client_id = g.client_id
left join users u on u.subject = g.subject;

create or replace view living_families as
select family_id, scopes, resource, expires_at, client_id, subject, username
from family_ends
where ended is null;
