-- Bank links: what is wanted of them, how they stand, and the lists of them.

-- ---------------------------------------------------------------- wishes

-- Raise the wish of one item; null where it takes none (paused, removed).
create function syncdesk.want(p_item uuid, p_trigger text, p_correlation text, p_lane text) returns jsonb
language sql set search_path = '' as $$
    update syncdesk.items set
        wanted = wanted + 1,
        wanted_at = clock_timestamp(),
        -- A waiting wish keeps the better lane.
        wanted_lane = case when wanted > done and (wanted_lane = 'high' or (wanted_lane = 'medium' and p_lane = 'low'))
            then wanted_lane else p_lane end,
        wanted_trigger = p_trigger,
        wanted_correlation = p_correlation
    where id = p_item and removed_at is null and paused_at is null
    returning jsonb_build_object('item_id', id, 'user_id', user_id, 'institution', institution_name,
        'lane', wanted_lane, 'plaid_item_id', plaid_item_id)
$$;

create function syncdesk.want_all(p_trigger text, p_correlation text, p_lane text) returns jsonb
language sql set search_path = '' as $$
    select coalesce(jsonb_agg(w), '[]') from (
        select syncdesk.want(id, p_trigger, p_correlation, p_lane) as w from (
            select id from syncdesk.items where removed_at is null and paused_at is null and state <> 'error'
            order by id for update
        ) ids
    ) wishes where w is not null
$$;

-- p_items: JSON list of item ids, null for all that can be synced. Answers whom to hint.
create function public.syncdesk_items_want(p_items jsonb, p_trigger text, p_correlation text, p_lane text)
returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '15s' as $$
declare
    hints jsonb;
    it syncdesk.items;
begin
    if p_items is null then
        return jsonb_build_object('hints', syncdesk.want_all(p_trigger, p_correlation, p_lane));
    end if;
    if jsonb_array_length(p_items) = 1 then
        select * into it from syncdesk.items where id = (p_items ->> 0)::uuid;
        if not found then
            raise exception using errcode = 'SD404', message = 'There is no such bank link.';
        elsif it.removed_at is not null then
            raise exception using errcode = 'SD409', message = 'This bank link was removed.';
        elsif it.paused_at is not null then
            raise exception using errcode = 'SD409', message = 'This bank link is paused; resume it first.';
        end if;
    end if;
    select coalesce(jsonb_agg(w), '[]') into hints from (
        select syncdesk.want(i.id::uuid, p_trigger, p_correlation, p_lane) as w
        from (select e as id from jsonb_array_elements_text(p_items) e order by 1) i
    ) wishes where w is not null;
    return jsonb_build_object('hints', hints);
end $$;

-- The backup run: items without a success for so long, oldest first. While the install's keys or
-- plan are refused, one item probes whether that has ended.
-- A clock that was ahead for a while and is put right leaves times in the future. Whoever asks "is it long ago"
-- must not take them for fresh until the clock has come that far: the backup sync would look away for as long.
create function public.syncdesk_items_want_stale(p_age_s integer, p_limit integer, p_correlation text)
returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '30s' as $$
declare
    hints jsonb;
    trouble boolean := exists (select from syncdesk.settings where key = 'install_trouble');
    at timestamptz := clock_timestamp();
    since timestamptz := at - p_age_s * interval '1 second';
begin
    select coalesce(jsonb_agg(w order by n), '[]') into hints from (
        select n, syncdesk.want(id, case when trouble then 'probe' else 'schedule' end, p_correlation, 'medium') as w
        from (
            select id, row_number() over () as n from (
                select id from syncdesk.items
                where removed_at is null and paused_at is null and state not in ('needs_you', 'error', 'removed')
                    and (last_success_at is null or last_success_at <= since or last_success_at > at)
                    -- A wish that still waits is not raised again.
                    and (wanted = done or wanted_at <= since or wanted_at > at)
                -- Probes take turns: an item with trouble of its own could never end that of the install.
                order by case when trouble then last_attempt_at else last_success_at end nulls first, id
                limit case when trouble then 1 else p_limit end
                for update skip locked
            ) oldest
        ) numbered
    ) wishes where w is not null;
    return jsonb_build_object('hints', hints);
end $$;

-- ---------------------------------------------------------------- states

-- An item enters a state. Answers the outbox row that tells the person, where there is news for them.
create function syncdesk.item_enter(
    p_item uuid, p_state text, p_code text, p_expires timestamptz, p_correlation text
) returns bigint
language plpgsql set search_path = '' as $$
declare
    was syncdesk.items;
    made bigint;
begin
    select * into was from syncdesk.items where id = p_item for update;
    if not found or was.removed_at is not null then return null; end if;
    update syncdesk.items set state = p_state, state_code = p_code,
        state_since = case when state = p_state and state_code is not distinct from p_code
            then state_since else clock_timestamp() end,
        expires_at = case when p_state = 'expiring' then coalesce(p_expires, expires_at) else expires_at end,
        next_probe_at = case when p_state in ('needs_you', 'error', 'expiring') then clock_timestamp() + interval '1 day' end,
        removed_at = case when p_state = 'removed' then clock_timestamp() end
        where id = p_item;
    if p_state = 'removed' then delete from syncdesk.item_leases where item_id = p_item; end if;
    -- Once, not at every run that meets the same trouble; trouble at the bank is nobody's task.
    if p_state in ('needs_you', 'expiring', 'error', 'removed')
            and (was.state, was.state_code) is distinct from (p_state, p_code) then
        insert into syncdesk.outbox (kind, user_id, item_id, correlation_id, payload)
        values ('item_state', was.user_id, p_item, p_correlation,
            jsonb_build_object('state', p_state, 'code', p_code, 'institution', was.institution_name))
        returning id into made;
    end if;
    return made;
end $$;

-- Keys, environment or plan of the install: one alarm, however many items meet it.
create function syncdesk.install_trouble(p_code text, p_correlation text) returns bigint
language plpgsql set search_path = '' as $$
declare
    made bigint;
begin
    insert into syncdesk.settings (key, value, updated_by)
    values ('install_trouble', jsonb_build_object('code', p_code, 'since', clock_timestamp()), 'sync')
    on conflict (key) do nothing;
    if found then
        insert into syncdesk.outbox (kind, correlation_id, payload)
        values ('install_trouble', p_correlation, jsonb_build_object('code', p_code)) returning id into made;
    end if;
    return made;
end $$;

-- A webhook or probe told how an item stands. p_state 'healthy' ends trouble; p_want asks for a run.
create function public.syncdesk_item_state(
    p_item uuid, p_state text, p_code text, p_expires text, p_want boolean, p_trigger text, p_correlation text
) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '10s' as $$
declare
    made bigint;
    hint jsonb;
begin
    if p_state is not null then
        made := syncdesk.item_enter(p_item, p_state, p_code, p_expires::timestamptz, p_correlation);
    end if;
    if p_want then
        hint := syncdesk.want(p_item, p_trigger, p_correlation, 'high');
    end if;
    return jsonb_build_object('outbox', made, 'hints', case when hint is null then '[]'::jsonb else jsonb_build_array(hint) end);
end $$;

create function public.syncdesk_item_pause(p_item uuid, p_paused boolean, p_by text, p_correlation text)
returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '10s' as $$
declare
    hint jsonb;
    it syncdesk.items;
begin
    select * into it from syncdesk.items where id = p_item for update;
    if not found then raise exception using errcode = 'SD404', message = 'There is no such bank link.'; end if;
    if it.removed_at is not null then
        raise exception using errcode = 'SD409', message = 'This bank link was removed.';
    end if;
    update syncdesk.items set
        paused_at = case when p_paused then coalesce(paused_at, clock_timestamp()) end,
        paused_by = case when p_paused then p_by end,
        done = case when p_paused then wanted else done end
        where id = p_item;
    if not p_paused and it.paused_at is not null then
        hint := syncdesk.want(p_item, 'resume', p_correlation, 'high');
    end if;
    return jsonb_build_object('hints', case when hint is null then '[]'::jsonb else jsonb_build_array(hint) end);
end $$;

-- The sealed token, to call Plaid about the item outside a run (probe, removal, update mode).
create function public.syncdesk_item_token(p_item uuid) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '5s' as $$
declare
    it syncdesk.items;
begin
    select * into it from syncdesk.items where id = p_item;
    if not found then raise exception using errcode = 'SD404', message = 'There is no such bank link.'; end if;
    return jsonb_build_object('item_id', it.id, 'plaid_item_id', it.plaid_item_id, 'user_id', it.user_id,
        'user', (select name from syncdesk.users where id = it.user_id),
        'institution', it.institution_name, 'institution_id', it.institution_id, 'environment', it.environment,
        'state', it.state, 'state_code', it.state_code, 'expires_at', syncdesk.iso(it.expires_at), 'removed', it.removed_at is not null,
        'access_token', it.access_token, 'access_key_id', it.access_key_id);
end $$;

-- Removed by the person: syncing ends, the data stays.
create function public.syncdesk_item_remove(p_item uuid, p_by text, p_correlation text) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '10s' as $$
begin
    update syncdesk.items set state = 'removed', state_code = 'REMOVED_BY_' || upper(p_by),
        state_since = clock_timestamp(), removed_at = coalesce(removed_at, clock_timestamp()), done = wanted
        where id = p_item;
    if not found then raise exception using errcode = 'SD404', message = 'There is no such bank link.'; end if;
    -- A run under way can commit nothing any more.
    delete from syncdesk.item_leases where item_id = p_item;
    return jsonb_build_object('item_id', p_item);
end $$;

-- Items in trouble whose daily look is due. The next one is set to an hour ahead at once, so that two callers share the
-- work and a look that came to nothing is soon repeated; item_probed sets it to a day.
create function public.syncdesk_items_probe(p_limit integer) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '10s' as $$
declare
    due jsonb;
begin
    with due_ as (
        select id from syncdesk.items
        where removed_at is null and paused_at is null and state in ('needs_you', 'error', 'expiring')
            -- Never more than a day ahead, but by a clock that was.
            and (coalesce(next_probe_at, '-infinity') <= clock_timestamp()
                or next_probe_at > clock_timestamp() + interval '1 day')
        order by next_probe_at nulls first limit p_limit for update skip locked
    ), set_ as (
        update syncdesk.items i set next_probe_at = clock_timestamp() + interval '1 hour'
        from due_ where i.id = due_.id returning i.id
    )
    select coalesce(jsonb_agg(id), '[]') into due from set_;
    return jsonb_build_object('items', due);
end $$;

-- Plaid answered about an item that is still in trouble: enough for a day.
create function public.syncdesk_item_probed(p_item uuid) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '5s' as $$
begin
    update syncdesk.items set next_probe_at = clock_timestamp() + interval '1 day'
        where id = p_item and next_probe_at is not null;
    return jsonb_build_object('changed', found);
end $$;

-- ---------------------------------------------------------------- linking

-- Items that look like the login about to be linked: same institution, same accounts by name and mask.
create function public.syncdesk_item_twins(p_user text, p_institution_id text, p_accounts jsonb) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '5s' as $$
begin
    return jsonb_build_object('twins', coalesce((
        select jsonb_agg(jsonb_build_object('item_id', i.id, 'plaid_item_id', i.plaid_item_id))
        from syncdesk.items i join syncdesk.users u on u.id = i.user_id
        where u.name = p_user and i.institution_id = p_institution_id and i.removed_at is null
            and exists (
                select from syncdesk.accounts a, jsonb_array_elements(p_accounts) n
                where a.item_id = i.id and a.mask is not null and a.mask = n ->> 'mask' and a.name = n ->> 'name'
            )), '[]'));
end $$;

-- p_id is chosen by the caller: the token is sealed under it. An item that Plaid knows already is
-- linked anew in place (its token was replaced); its cursor and rows stay.
create function public.syncdesk_item_link(
    p_id uuid, p_user text, p_plaid_item_id text, p_institution_id text, p_institution_name text, p_label text,
    p_environment text, p_access_token text, p_access_key_id text, p_webhook_url text, p_accounts jsonb,
    p_correlation text
) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '10s' as $$
declare
    user_ uuid;
    owner_ uuid;
    hint jsonb;
begin
    insert into syncdesk.users (name) values (p_user) on conflict (name) do nothing;
    select id into user_ from syncdesk.users where name = p_user;
    select user_id into owner_ from syncdesk.items where plaid_item_id = p_plaid_item_id and id <> p_id;
    if owner_ is not null then
        raise exception using errcode = 'SD409', message = 'This bank link is already known.';
    end if;
    insert into syncdesk.items as i (id, user_id, plaid_item_id, institution_id, institution_name, label, environment,
        access_token, access_key_id, webhook_url)
    values (p_id, user_, p_plaid_item_id, p_institution_id, coalesce(p_institution_name, ''), coalesce(p_label, ''),
        p_environment, p_access_token, p_access_key_id, p_webhook_url)
    on conflict (id) do update set access_token = excluded.access_token, access_key_id = excluded.access_key_id,
        webhook_url = excluded.webhook_url, removed_at = null, paused_at = null, state = 'healthy', state_code = null,
        state_since = clock_timestamp();
    perform syncdesk.put_accounts(p_id, user_, p_accounts);
    hint := syncdesk.want(p_id, 'link', p_correlation, 'high');
    return jsonb_build_object('item_id', p_id, 'user_id', user_, 'hints', jsonb_build_array(hint));
end $$;

-- The install's item for one of Plaid's ids, null where there is none.
create function public.syncdesk_item_find(p_plaid_item_id text) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '5s' as $$
begin
    return jsonb_build_object('item_id', (select id from syncdesk.items where plaid_item_id = p_plaid_item_id));
end $$;

-- The address that Plaid sends the item's webhooks to, as it confirmed it.
create function public.syncdesk_item_webhook(p_item uuid, p_url text) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '5s' as $$
begin
    update syncdesk.items set webhook_url = p_url where id = p_item;
    return jsonb_build_object('changed', found);
end $$;

-- A person took one account's permission away; its rows stay until they decide.
create function public.syncdesk_account_closed(p_item uuid, p_plaid_account_id text) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '5s' as $$
begin
    update syncdesk.accounts set closed_at = coalesce(closed_at, clock_timestamp())
        where item_id = p_item and plaid_account_id = p_plaid_account_id;
    return jsonb_build_object('changed', found);
end $$;

-- Hosted link sessions that a browser is busy with: {link_token, user, item_id, items, taken: {digest: when}}; the
-- time is null once it is settled.
create function public.syncdesk_link_session_put(p_session text, p_link_token text, p_user text, p_item text)
returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '5s' as $$
begin
    -- Plaid keeps results for hours; a session of last week is over.
    delete from syncdesk.settings where key like 'link\_session/%' and updated_at < now() - interval '7 days';
    insert into syncdesk.settings (key, value, updated_by) values ('link_session/' || p_session,
        jsonb_build_object('link_token', p_link_token, 'user', p_user, 'item_id', p_item, 'taken', '{}'::jsonb,
            'items', '[]'::jsonb), 'link');
    return jsonb_build_object('session', p_session);
end $$;

-- By our session id, or by Plaid's link token as a webhook names it.
create function public.syncdesk_link_session_get(p_session text, p_link_token text) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '5s' as $$
begin
    return coalesce((
        select value || jsonb_build_object('session', substr(key, 14)) from syncdesk.settings
        where (p_session is not null and key = 'link_session/' || p_session)
            or (p_link_token is not null and key like 'link\_session/%' and value ->> 'link_token' = p_link_token)
        limit 1), 'null');
end $$;

-- A public token is exchanged once, though webhook and browser both bring it: true for the first who asks, and a
-- minute later for another, where the first ended before it said what came of it.
-- p_made says that: an item's id; 'none' where nothing will; empty where it may be tried again at once.
create function public.syncdesk_link_session_take(p_session text, p_digest text, p_made text) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '5s' as $$
declare
    v jsonb;
    now_ double precision := extract(epoch from clock_timestamp());
begin
    select value into v from syncdesk.settings where key = 'link_session/' || p_session for update;
    if not found then raise exception using errcode = 'SD404', message = 'This sign-in is over.'; end if;
    if p_made is null and (v -> 'taken') ? p_digest
            and coalesce((v -> 'taken' ->> p_digest)::float8 > now_ - 60, true) then
        return jsonb_build_object('first', false);
    end if;
    v := jsonb_set(v, '{taken}', case when p_made = '' then (v -> 'taken') - p_digest
        else v -> 'taken' || jsonb_build_object(p_digest, case when p_made is null then now_ end) end);
    if p_made not in ('', 'none') and not (v -> 'items') ? p_made then
        v := jsonb_set(v, '{items}', v -> 'items' || to_jsonb(p_made));
    end if;
    update syncdesk.settings set value = v where key = 'link_session/' || p_session;
    return jsonb_build_object('first', p_made is null);
end $$;
