-- A grant can shrink: somebody un-ticks a scope, or an operator deletes it. What came from the grant and goes beyond it
-- is dead by the join, also what was being written meanwhile, and it stays so: whoever shrinks a grant ends the
-- families beyond it too, or they would come alive when it grows again.

create or replace view living_access_tokens as
select t.digest, t.client_id, t.subject, t.scopes, t.resource, t.token_type, t.mac_key, t.mac_algorithm, t.issued_at,
    t.expires_at, c.mac_drafts, u.username, u.email, t.family_id, f.grant_id
from access_tokens t
join clients c on c.client_id = t.client_id
left join users u on u.subject = t.subject
left join families f on f.family_id = t.family_id
left join grants g on g.grant_id = f.grant_id
where t.revoked_at is null
    and c.disabled_at is null and c.generation = t.client_generation
    and (t.subject is null or (u.disabled_at is null and u.generation = t.user_generation))
    and (t.family_id is null
        or (f.revoked_at is null and g.grant_id is not null and g.revoked_at is null and f.scopes <@ g.scopes));

create or replace view living_families as
select f.family_id, f.scopes, f.resource, f.expires_at, g.client_id, g.subject, u.username
from families f
join grants g on g.grant_id = f.grant_id
join clients c on c.client_id = g.client_id
join users u on u.subject = g.subject
where f.revoked_at is null and g.revoked_at is null and f.scopes <@ g.scopes
    and c.disabled_at is null and c.generation = f.client_generation
    and u.disabled_at is null and u.generation = f.user_generation;

drop trigger grants_changed on grants;
create constraint trigger grants_changed after update on grants
deferrable initially deferred for each row
when (old.revoked_at is distinct from new.revoked_at or not old.scopes <@ new.scopes)
execute function note_change('grant');
