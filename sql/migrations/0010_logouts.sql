-- What ends with a session: the sign-ins that applications have from it, and what they may do by those unless the
-- person allowed it for while they are away. A trigger does it, so that no way to end a session can forget to:
-- sign-out, a new password, a person who is disabled, an operator. A session that expired by itself ends nothing.

-- Applications that are to be told (OpenID Connect Back-Channel Logout 1.0), until they were or it is too late.
create table logouts (
    logout_id text primary key, -- `jti` of every token that tells of it
    client_id text not null,
    subject text not null, -- the person may be gone by then, so that nothing refers to it
    session_id text not null,
    ended_at timestamptz not null,
    due_at timestamptz not null, -- of the next attempt
    attempts integer not null default 0,
    constraint logouts_once unique (client_id, session_id),
    constraint logouts_client_id_fkey foreign key (client_id) references clients on delete cascade
);
create index logouts_due_at on logouts (due_at);

-- Codes first: who redeems one holds it locked, and the family that comes of it is seen afterwards. A code ends also
-- where its time is over already: whoever redeems it may have found it good before, or have a clock that is behind, and
-- sees that it has ended by its end being another than it was.
create function end_sign_ins() returns trigger language plpgsql
set search_path from current as $$
begin
    update codes set expires_at = least(expires_at, now()) - interval '1 microsecond'
    where session_id = old.session_id and spent_at is null
        and 'openid' = any (scopes) and not 'offline_access' = any (scopes);
    insert into logouts (logout_id, client_id, subject, session_id, ended_at, due_at)
    select 'l' || replace(gen_random_uuid()::text, '-', ''), c.client_id, old.subject, old.session_id, now(), now()
    from clients c
    where c.openid ? 'backchannel_logout_uri' and c.disabled_at is null
        and c.client_id in (
            select g.client_id from families f join grants g on g.grant_id = f.grant_id
            where f.session_id = old.session_id and 'openid' = any (f.scopes)
        )
    on conflict (client_id, session_id) do nothing;
    update families set revoked_at = now()
    where session_id = old.session_id and revoked_at is null
        and 'openid' = any (scopes) and not 'offline_access' = any (scopes);
    return null;
end
$$;

create trigger sessions_ended after delete on sessions
for each row when (old.expires_at > clock_timestamp()) execute function end_sign_ins();
