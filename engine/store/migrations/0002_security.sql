-- Who may do what. `syncdesk.secure()` runs at the end of every migration, in its transaction, and walks the
-- catalogue, so that what a later file adds is closed from its first moment:
--   * functions: nobody but their owner and service_role (PUBLIC too: revoking from anon alone leaves anon able);
--   * tables: row level security on every one; end users (authenticated) read their own rows of a few, write none.

-- The Syncdesk user that a request of an end user's app speaks for: the token's subject is a user's id or name.
create function syncdesk.current_user_id() returns uuid
    language sql stable security definer set search_path = ''
as $$
    with claim as (
        select nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub' as subject
    )
    select u.id
      from syncdesk.users u, claim
     where u.id::text = claim.subject or u.name = claim.subject
     order by (u.id::text = claim.subject) desc
     limit 1
$$;

-- What end users' apps read: their own rows, by row level security (security_invoker: as the caller, not the owner).
create view public.syncdesk_items with (security_invoker = true) as
    select id, user_id, institution_id, institution_name, label, state, state_code, state_since, last_success_at,
           newest_data_at, expires_at, created_at
      from syncdesk.items where removed_at is null;
create view public.syncdesk_accounts with (security_invoker = true) as
    select id, item_id, user_id, plaid_account_id, name, official_name, mask, type, subtype, iso_currency_code,
           unofficial_currency_code, balance_current, balance_available, balance_limit, balances_at, newest_data_at,
           closed_at
      from syncdesk.accounts;
create view public.syncdesk_transactions with (security_invoker = true) as
    select id, item_id, user_id, transaction_id, account_id, amount, iso_currency_code, unofficial_currency_code, date,
           authorized_date, datetime, authorized_datetime, name, merchant_name, merchant_entity_id,
           original_description, payment_channel, check_number, pending, pending_transaction_id, category_primary,
           category_detailed, category_confidence, person_category, note, created_at, updated_at
      from syncdesk.transactions where removed_at is null;
create view public.syncdesk_transaction_history with (security_invoker = true) as
    select id, item_id, user_id, transaction_id, change, old, new, source, at from syncdesk.transaction_history;
create view public.syncdesk_bills with (security_invoker = true) as
    select id, user_id, name, amount, amount_min, amount_max, currency, category, cadence, anchor_date,
           business_day_shift, account_id, tolerance, start_date, end_date, archived_at
      from syncdesk.bills;
create view public.syncdesk_matches with (security_invoker = true) as
    select id, user_id, bill_id, item_id, transaction_id, period, state, score, evidence, created_at, updated_at
      from syncdesk.matches;

-- The schema that this database has, for programs that must know whether it is theirs.
create function public.syncdesk_schema() returns jsonb
    language sql stable security definer set search_path = '' set statement_timeout = '5s'
as $$
    select jsonb_build_object('migrations', coalesce(
        jsonb_agg(jsonb_build_object('name', name, 'checksum', checksum) order by name), '[]'))
      from syncdesk.migrations
$$;

create function syncdesk.role_exists(p_role text) returns boolean
    language sql stable set search_path = ''
as $$ select exists (select from pg_catalog.pg_roles where rolname = p_role) $$;

-- Roles that must not have what nobody granted them: PUBLIC, and Supabase's, to which it grants by default.
create function syncdesk.outsiders() returns text
    language sql stable set search_path = ''
as $$
    select concat_ws(', ', 'public', string_agg(quote_ident(rolname), ', '))
      from pg_catalog.pg_roles where rolname in ('anon', 'authenticated')
$$;

-- The same as numbers, as access lists have them (0 is PUBLIC). Who is closed out already is left alone below, since
-- all of this runs after every migration.
create function syncdesk.outsider_numbers() returns oid[]
    language sql stable set search_path = ''
as $$
    select array_agg(oid) || 0::oid from pg_catalog.pg_roles where rolname in ('anon', 'authenticated')
$$;

create function syncdesk.secure_functions() returns void
    language plpgsql set search_path = ''
as $$
declare
    v_outsiders text := syncdesk.outsiders();
    v_numbers   oid[] := syncdesk.outsider_numbers();
    v_service   boolean := syncdesk.role_exists('service_role');
    f record;
begin
    for f in
        select p.oid::regprocedure as signature, p.pronamespace = 'public'::regnamespace as is_public, p.oid,
               exists (select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
                        where a.grantee = any (v_numbers)) as is_open
          from pg_catalog.pg_proc p
         where p.pronamespace = 'syncdesk'::regnamespace
            or (p.pronamespace = 'public'::regnamespace and p.proname like 'syncdesk\_%')
    loop
        if f.is_open then
            execute format('revoke all on function %s from %s', f.signature, v_outsiders);
        end if;
        if f.is_public and v_service and not has_function_privilege('service_role', f.oid, 'execute') then
            execute format('grant execute on function %s to service_role', f.signature);
        end if;
    end loop;
    if syncdesk.role_exists('authenticated') then
        grant execute on function syncdesk.current_user_id() to authenticated;
    end if;
end
$$;

create function syncdesk.secure_tables() returns void
    language plpgsql set search_path = ''
as $$
declare
    v_outsiders text := syncdesk.outsiders();
    v_numbers   oid[] := syncdesk.outsider_numbers();
    v_column    text;
    t record;
begin
    for t in
        select c.oid, c.oid::regclass as name, c.relkind, c.relrowsecurity,
               exists (select from aclexplode(c.relacl) a where a.grantee = any (v_numbers))
               or exists (select from pg_catalog.pg_attribute a, aclexplode(a.attacl) x
                           where a.attrelid = c.oid and a.attacl is not null and x.grantee = any (v_numbers)) as is_open
          from pg_catalog.pg_class c
         where (c.relnamespace = 'syncdesk'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'S'))
            or (c.relnamespace = 'public'::regnamespace and c.relkind = 'v' and c.relname like 'syncdesk\_%')
    loop
        if t.is_open then
            execute format('revoke all on %s %s from %s', case t.relkind when 'S' then 'sequence' else 'table' end,
                           t.name, v_outsiders);
        end if;
        continue when t.relkind not in ('r', 'p');
        if not t.relrowsecurity then
            execute format('alter table %s enable row level security', t.name);
        end if;
        v_column := case when t.name = 'syncdesk.users'::regclass then 'id' else 'user_id' end;
        if exists (select from pg_catalog.pg_attribute a
                    where a.attrelid = t.oid and a.attname = v_column and not a.attisdropped)
           and not exists (select from pg_catalog.pg_policy p where p.polrelid = t.oid and p.polname = 'own_rows')
        then
            execute format('create policy own_rows on %s for select using (%I = (select syncdesk.current_user_id()))',
                           t.name, v_column);
        end if;
    end loop;
end
$$;

-- End users read the columns that the views show, of the tables as well: realtime looks at the tables.
create function syncdesk.secure_end_users() returns void
    language plpgsql set search_path = ''
as $$
declare
    v record;
begin
    if not syncdesk.role_exists('authenticated') then
        return;
    end if;
    grant usage on schema syncdesk to authenticated;
    for v in
        select c.oid::regclass as view, format('syncdesk.%I', substr(c.relname, 10))::regclass as source,
               string_agg(quote_ident(a.attname), ', ' order by a.attnum) as columns
          from pg_catalog.pg_class c
          join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
         where c.relnamespace = 'public'::regnamespace and c.relkind = 'v' and c.relname like 'syncdesk\_%'
         group by c.oid, c.relname
    loop
        execute format('grant select on table %s to authenticated', v.view);
        execute format('grant select (%s) on table %s to authenticated', v.columns, v.source);
    end loop;
    grant select (removed_at) on table syncdesk.items, syncdesk.transactions to authenticated;
end
$$;

create function syncdesk.secure_realtime() returns void
    language plpgsql set search_path = ''
as $$
declare
    v_table text;
begin
    if not exists (select from pg_catalog.pg_publication where pubname = 'supabase_realtime' and not puballtables) then
        return;
    end if;
    -- Not items: a change of theirs carries the sealed access token through the stream.
    foreach v_table in array array['accounts', 'transactions', 'bills', 'matches'] loop
        if not exists (select from pg_catalog.pg_publication_tables
                        where pubname = 'supabase_realtime' and schemaname = 'syncdesk' and tablename = v_table)
        then
            execute format('alter publication supabase_realtime add table syncdesk.%I', v_table);
        end if;
    end loop;
end
$$;

create function syncdesk.secure() returns void
    language sql set search_path = ''
as $$
    select syncdesk.secure_functions();
    select syncdesk.secure_tables();
    select syncdesk.secure_end_users();
    select syncdesk.secure_realtime();
$$;
