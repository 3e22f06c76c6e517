-- The audit record: who acted, and what they did. It proves itself: what somebody altered, removed or put in shows
-- (`gateway/store/chain.py`).

-- An event is written once and never changes but for its place in the chain. Many failures of one account are one
-- event, and another one where they go on (`gateway/store/tally.py`): anybody can fail, so that an event each would let
-- strangers fill the table.
create table events (
    event_id bigint generated always as identity primary key,
    at timestamptz not null,
    kind text not null,
    subject text,
    client_id text,
    detail jsonb not null default '{}',
    request_id text,
    address text,
    actor text, -- such as operator:root, user:u…, client:c…
    seq bigint, -- null until it has its place; negative where it does not prove to be ours
    proof bytea
);
-- Of those without a place too, of which there are few: an index for these alone would cost each event another entry.
create unique index events_seq on events (seq);

-- The writer has a key for each event, which it gives with its number (`proof`: 16 bytes of number, 32 of key). The
-- trigger keeps a 1, the number and what the key makes of the row, never the key: so the database can't prove what the
-- program didn't write. Soon after, a worker gives the event its place: `seq`, with the chain's link in `proof`.
create function prove_event() returns trigger language plpgsql as $$
declare
    number bytea := substr(new.proof, 1, 16);
    key bytea := substr(new.proof, 17);
begin
    if new.at > clock_timestamp() + interval '1 minute' then -- by a clock that is ahead
        new.at := clock_timestamp();
    end if;
    new.proof := '\x01' || number || sha256(key || sha256(key || convert_to(jsonb_build_array(
        new.event_id, extract(epoch from new.at)::text, new.kind, new.subject, new.client_id,
        new.request_id, new.address, new.actor, new.detail::text)::text, 'UTF8')));
    return new;
end
$$;
create trigger events_proven before insert on events
for each row when (length(new.proof) = 48) execute function prove_event(); -- what a backup brings back is 49 long

-- The chain's two ends. Its key is sealed by the master key, and `mac` is made with it: neither end can be moved by who
-- has the database alone.
create table event_chain (
    singleton boolean primary key default true,
    sealed_key bytea, -- null before the first event has its place
    seq bigint not null default 0,
    link bytea not null default '',
    base_seq bigint not null default 0, -- of the last one that was removed when its time was over
    base_link bytea not null default '',
    mac bytea,
    constraint event_chain_singleton_check check (singleton)
);
insert into event_chain default values;
