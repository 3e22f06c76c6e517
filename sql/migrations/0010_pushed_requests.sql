-- Authorization requests that a client pushed (RFC 9126), until a person has answered them. Which clients may ask in no
-- other way is theirs.
alter table clients add column par_required boolean not null default false;

-- The first browser that opens a request has it (`browser`, the digest of its secret), and has longer for the answer;
-- whoever answers spends it in the same transaction, so that no request brings two codes.
create table pushed_requests (
    digest bytea primary key, -- of the reference, the only form in which it is known here
    client_id text not null,
    parameters text not null, -- form-encoded, as a query would have them
    created_at timestamptz not null,
    expires_at timestamptz not null,
    browser bytea,
    spent_at timestamptz,
    constraint pushed_requests_client_id_fkey foreign key (client_id) references clients on delete cascade
);
create index pushed_requests_client_id on pushed_requests (client_id);
create index pushed_requests_expires_at on pushed_requests (expires_at);
