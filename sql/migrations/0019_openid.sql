-- What applications may learn of people who sign in (OpenID Connect Core 1.0, section 5.1).
alter table users
    add column email_verified boolean not null default false, -- the operator says so; another address is not
    add column claims jsonb not null default '{}', -- whatever else is known, by the claim's name
    add column groups text[] not null default '{}',
    add column updated_at timestamptz; -- null: never since it was created
alter table users
    add constraint users_claims_check check (jsonb_typeof(claims) = 'object'),
    add constraint users_email_verified_check check (email is not null or not email_verified);

-- How a client learns of people, as the program writes and reads it (`gateway/model.py`, OpenID). Another setting is
-- another member, and no change of the schema.
alter table clients add column openid jsonb not null default '{}';

-- What clients of one sector know a person by, where it is not the subject itself (Core, section 8.1).
create table pairwise_subjects (
    sector text not null,
    subject text not null,
    known_as text not null,
    constraint pairwise_subjects_pkey primary key (sector, subject),
    constraint pairwise_subjects_known_as_key unique (known_as),
    constraint pairwise_subjects_subject_fkey foreign key (subject) references users on delete cascade
);
create index pairwise_subjects_subject on pairwise_subjects (subject);

-- The session in whose sign-in a code, and what comes from it, began. The session may be over by then, so nothing refers to it.
alter table codes
    add column session_id text;
alter table families
    add column session_id text,
    -- Claims that the request named one by one, for the ID tokens and for the UserInfo endpoint (section 5.5).
    add column id_token_claims text[] not null default '{}',
    add column userinfo_claims text[] not null default '{}';
create index families_session_id on families (session_id) where session_id is not null;
