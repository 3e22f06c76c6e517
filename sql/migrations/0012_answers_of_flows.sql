-- A flow belongs to a person, not to one session: who signs in anew, in another tab say, goes on where they were. What
-- was answered stays with the flow, so that a second click on the same button gets the same answer. The code in it is
-- sealed, and worth something for as long as the code is.
delete from flows; -- each would end within ten minutes; who has one open is asked again
alter table flows
    drop column session_id,
    add column subject text not null,
    add column allowed text[], -- what of `scopes` was allowed; set with the decision "granted"
    add column code_digest bytea,
    add column sealed_code bytea,
    add constraint flows_subject_fkey foreign key (subject) references users on delete cascade,
    add constraint flows_allowed_check check ((decision is not distinct from 'granted') = (allowed is not null));
create index flows_subject on flows (subject);

-- Consent covers the resources that were asked for (RFC 8707), sorted; none means every route. Another set of them is
-- another grant. So one person and one client may have several, which end together when the person withdraws.
alter table grants add column resource text[] not null default '{}';
drop index grants_live_key;
create unique index grants_live_key on grants (subject, client_id, resource) where revoked_at is null;
