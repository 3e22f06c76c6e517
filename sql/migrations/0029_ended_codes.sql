-- A code ends with its session also where its time is over already: whoever redeems it may have found it good before, or
-- have a clock that is behind, and sees that it has ended by its end being another than it was.
create or replace function end_sign_ins() returns trigger language plpgsql
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
