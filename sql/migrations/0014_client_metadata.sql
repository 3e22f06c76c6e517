-- What people are shown of a client besides its name, and who answers for it (RFC 7591, section 2).
alter table clients
    add column description text,
    add column owner text,
    add column homepage text,
    add column privacy text,
    add column terms text,
    add constraint clients_description_check check (description <> ''),
    -- A client outlives its owner: the operator gives it another one.
    add constraint clients_owner_fkey foreign key (owner) references users on delete set null;
create index clients_owner on clients (owner) where owner is not null;

-- Apart from the clients, which are read with every token: a logo is read only when a browser asks for it.
create table client_logos (
    client_id text primary key,
    name text not null, -- holds the content's digest, so that a browser may keep it for good
    content bytea not null,
    constraint client_logos_client_id_fkey foreign key (client_id) references clients on delete cascade
);
create index client_logos_name on client_logos (name);
