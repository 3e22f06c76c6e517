-- Routes that people open in a browser: workers hold sessions as they hold tokens, so the change log names those that end,
-- and the person where a new password has ended sessions that nobody sees yet.

create or replace view living_sessions as
select s.session_id, s.token_digest, s.signed_in_at, s.expires_at, u.subject, u.username, u.email, u.name, u.created_at,
    u.disabled_at, u.generation as user_generation, s.acr, u.groups
from sessions s
join users u on u.subject = s.subject
where u.disabled_at is null and u.session_generation = s.generation;

create or replace function note_change() returns trigger language plpgsql
set search_path from current set lock_timeout = '1500ms' as $$
declare
    changed text := '';
begin
    case tg_argv[0]
        when 'token' then changed := encode(old.digest, 'hex');
        when 'session' then changed := encode(old.token_digest, 'hex');
        when 'family' then changed := old.family_id;
        when 'grant' then changed := old.grant_id;
        when 'client' then changed := old.client_id;
        when 'user' then changed := old.subject;
        when 'all' then null;
    end case;
    perform pg_advisory_xact_lock(1667788398);
    insert into changes (kind, key) values (tg_argv[0], changed);
    perform pg_notify('gateway_changes', '');
    return null;
end
$$;

create constraint trigger sessions_changed after update on sessions
deferrable initially deferred for each row
when ((old.token_digest, old.subject, old.generation, old.signed_in_at, old.expires_at, old.acr)
    is distinct from (new.token_digest, new.subject, new.generation, new.signed_in_at, new.expires_at, new.acr))
execute function note_change('session');

-- Of what goes with its person they say nothing more, and of what has expired, as the sweep removes it, nothing at all.
create constraint trigger sessions_gone after delete on sessions
deferrable initially deferred for each row
when (old.expires_at > clock_timestamp() and pg_trigger_depth() = 0)
execute function note_change('session');

create trigger sessions_emptied after truncate on sessions execute function note_change('all');

drop trigger users_changed on users;
create constraint trigger users_changed after update on users
deferrable initially deferred for each row
when ((old.disabled_at, old.generation, old.session_generation, old.username, old.email, old.groups)
    is distinct from (new.disabled_at, new.generation, new.session_generation, new.username, new.email, new.groups))
execute function note_change('user');
