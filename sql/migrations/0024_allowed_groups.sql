-- Who may use a client at all: people in one of its groups, where it names some. What was issued ends when they leave the
-- group, or the client is closed to it, as all that these views judge by.
alter table clients add column allow_groups text[] not null default '{}';

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
    t.jkt
from access_tokens t
left join clients c on c.client_id = t.client_id
left join users u on u.subject = t.subject
left join families f on f.family_id = t.family_id
left join grants g on g.grant_id = f.grant_id;

create or replace view family_ends as
select f.family_id, f.scopes, f.resource, f.expires_at, g.client_id, g.subject, u.username,
    case
        when c.client_id is null then 'of a deleted client'
        when c.disabled_at is not null then 'of a disabled client'
        when u.subject is null then 'of a deleted user'
        when u.disabled_at is not null then 'of a disabled user'
        when f.revoked_at is not null or g.revoked_at is not null or not f.scopes <@ g.scopes
            or c.generation <> f.client_generation or u.generation <> f.user_generation then 'revoked'
        when c.allow_groups <> '{}' and not c.allow_groups && u.groups then 'of a user who may not use the client'
    end as ended
from families f
join grants g on g.grant_id = f.grant_id
left join clients c on c.client_id = g.client_id
left join users u on u.subject = g.subject;

drop trigger users_changed on users;
create constraint trigger users_changed after update on users
deferrable initially deferred for each row
when ((old.disabled_at, old.generation, old.username, old.email, old.groups)
    is distinct from (new.disabled_at, new.generation, new.username, new.email, new.groups))
execute function note_change('user');

drop trigger clients_changed on clients;
create constraint trigger clients_changed after update on clients
deferrable initially deferred for each row
when ((old.disabled_at, old.generation, old.mac_drafts, old.allow_groups)
    is distinct from (new.disabled_at, new.generation, new.mac_drafts, new.allow_groups))
execute function note_change('client');
