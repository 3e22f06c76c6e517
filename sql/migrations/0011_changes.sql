-- The change log: what tells a cached token or session that what it hangs on is no longer what it was.
--
-- Triggers write it, not the statements that change something: then no statement of today or tomorrow, of the release
-- before this one, or typed by an operator into psql can forget to. They watch exactly the columns that
-- `living_access_tokens` and `living_sessions` judge by or give out. They are deferred to the commit, for three
-- reasons:
--   * Sequence order is not commit order, so the id is drawn under a lock that is held until the commit is visible:
--     who has read up to an id has missed nothing before it. Taken at the commit, it is held for the commit alone,
--     not for a deletion that cascades for half a minute.
--   * A transaction that waits for the lock already has its rows, and one that has the lock waits for no row: so
--     they never deadlock.
--   * A lock that is not to be had is the end of the transaction, which the caller sees as any other outage.
-- A migration that changes such rows and then such a table says `set constraints all immediate` in between.
--
-- Kinds: token (key: the digest in hexadecimal), family, grant, client, user, and `all` when a table was truncated.
-- Sessions are none: their end names the person, of whom few tokens and sessions are held, and what lives of them is
-- asked about once more. Nor are scopes: what a token carries it keeps when the scope's description goes.

create table changes (
    id bigint generated always as identity,
    at timestamptz not null default clock_timestamp(),
    kind text not null,
    key text not null,
    constraint changes_pkey primary key (id)
);
create index changes_at on changes (at);

-- The log always has an end, which the sweep leaves: an id that is missing before the first is one that is missing.
insert into changes (kind, key) values ('all', '');

-- 1667788398 is "chan". A statement timeout does not reach a commit, hence a timeout of its own, below ours of 2 s.
create function note_change() returns trigger language plpgsql
set search_path from current set lock_timeout = '1500ms' as $$
declare
    changed text := '';
begin
    case tg_argv[0]
        when 'token' then changed := encode(old.digest, 'hex');
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

-- A new password ends the sessions that begin at this moment too, which nobody sees yet, by their generation.
create constraint trigger users_changed after update on users
deferrable initially deferred for each row
when ((old.disabled_at, old.generation, old.session_generation, old.username, old.email, old.groups)
    is distinct from (new.disabled_at, new.generation, new.session_generation, new.username, new.email, new.groups))
execute function note_change('user');

create constraint trigger sessions_changed after update on sessions
deferrable initially deferred for each row
when ((old.token_digest, old.subject, old.generation, old.signed_in_at, old.expires_at, old.acr)
    is distinct from (new.token_digest, new.subject, new.generation, new.signed_in_at, new.expires_at, new.acr))
execute function note_change('user');

create constraint trigger clients_changed after update on clients
deferrable initially deferred for each row
when ((old.disabled_at, old.generation, old.mac_drafts, old.allow_groups)
    is distinct from (new.disabled_at, new.generation, new.mac_drafts, new.allow_groups))
execute function note_change('client');

create constraint trigger grants_changed after update on grants
deferrable initially deferred for each row
when (old.revoked_at is distinct from new.revoked_at or not old.scopes <@ new.scopes)
execute function note_change('grant');

create constraint trigger families_changed after update on families
deferrable initially deferred for each row
when ((old.revoked_at, old.grant_id) is distinct from (new.revoked_at, new.grant_id))
execute function note_change('family');

-- Not the sealed key: the key in it stays the same when it is sealed anew.
create constraint trigger access_tokens_changed after update on access_tokens
deferrable initially deferred for each row
when ((old.digest, old.client_id, old.subject, old.family_id, old.client_generation, old.user_generation, old.scopes,
        old.resource, old.token_type, old.mac_algorithm, old.expires_at, old.revoked_at)
    is distinct from (new.digest, new.client_id, new.subject, new.family_id, new.client_generation, new.user_generation,
        new.scopes, new.resource, new.token_type, new.mac_algorithm, new.expires_at, new.revoked_at))
execute function note_change('token');

-- Deletions. Of what hangs on a user or client that goes (a cascade) they note nothing more, and of what is dead
-- already, as the sweep removes it, nothing at all.
create constraint trigger users_gone after delete on users
deferrable initially deferred for each row execute function note_change('user');

create constraint trigger sessions_gone after delete on sessions
deferrable initially deferred for each row
when (old.expires_at > clock_timestamp() and pg_trigger_depth() = 0)
execute function note_change('user');

create constraint trigger clients_gone after delete on clients
deferrable initially deferred for each row execute function note_change('client');

create constraint trigger grants_gone after delete on grants
deferrable initially deferred for each row when (old.revoked_at is null and pg_trigger_depth() = 0)
execute function note_change('grant');

create constraint trigger families_gone after delete on families
deferrable initially deferred for each row
when (old.revoked_at is null and old.expires_at > clock_timestamp() and pg_trigger_depth() = 0)
execute function note_change('family');

create constraint trigger access_tokens_gone after delete on access_tokens
deferrable initially deferred for each row when (old.revoked_at is null and old.expires_at > clock_timestamp())
execute function note_change('token');

create trigger users_emptied after truncate on users execute function note_change('all');
create trigger sessions_emptied after truncate on sessions execute function note_change('all');
create trigger clients_emptied after truncate on clients execute function note_change('all');
create trigger grants_emptied after truncate on grants execute function note_change('all');
create trigger families_emptied after truncate on families execute function note_change('all');
create trigger access_tokens_emptied after truncate on access_tokens execute function note_change('all');
