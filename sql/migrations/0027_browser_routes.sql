-- Routes that people open in a browser: workers hold sessions as they hold tokens, so the change log tells of those that
-- end. It names the person, of whom few tokens and sessions are held: what lives of them is asked about once more, and a
-- worker of the release before, which holds no sessions, knows what is meant.

create or replace view living_sessions as
select s.session_id, s.token_digest, s.signed_in_at, s.expires_at, u.subject, u.username, u.email, u.name, u.created_at,
    u.disabled_at, u.generation as user_generation, s.acr, u.groups
from sessions s
join users u on u.subject = s.subject
where u.disabled_at is null and u.session_generation = s.generation;

create constraint trigger sessions_changed after update on sessions
deferrable initially deferred for each row
when ((old.token_digest, old.subject, old.generation, old.signed_in_at, old.expires_at, old.acr)
    is distinct from (new.token_digest, new.subject, new.generation, new.signed_in_at, new.expires_at, new.acr))
execute function note_change('user');

-- Of what goes with its person they say nothing more, and of what has expired, as the sweep removes it, nothing at all.
create constraint trigger sessions_gone after delete on sessions
deferrable initially deferred for each row
when (old.expires_at > clock_timestamp() and pg_trigger_depth() = 0)
execute function note_change('user');

create trigger sessions_emptied after truncate on sessions execute function note_change('all');

-- A new password ends the sessions that begin at this moment too, which nobody sees yet, by their generation.
drop trigger users_changed on users;
create constraint trigger users_changed after update on users
deferrable initially deferred for each row
when ((old.disabled_at, old.generation, old.session_generation, old.username, old.email, old.groups)
    is distinct from (new.disabled_at, new.generation, new.session_generation, new.username, new.email, new.groups))
execute function note_change('user');
