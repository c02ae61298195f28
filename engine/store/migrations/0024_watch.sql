-- Accounts over time, when a bank usually has news, and links that are looked at sooner for it.

-- ---------------------------------------------------------------- accounts

-- The full list of a link's accounts, as Plaid gives it. Those that are not on it are closed, their rows stay; one that
-- came in the place of another (same lasting id, else same mask, name and kind) takes over the bills that named it.
create function public.syncdesk_accounts_seen(p_item uuid, p_accounts jsonb) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '10s' as $$
declare
    it syncdesk.items;
    known text[];
    gone syncdesk.accounts;
    heir text;
    appeared text[];
    vanished text[] := '{}';
    replaced text[] := '{}';
    moved integer;
    rematch_ boolean := false;
begin
    select * into it from syncdesk.items where id = p_item for no key update;
    if not found then raise exception using errcode = 'SD404', message = 'There is no such bank link.'; end if;
    if jsonb_array_length(p_accounts) = 0 then
        -- Plaid says NO_ACCOUNTS where there are none: an empty list is no news.
        return jsonb_build_object('appeared', '[]'::jsonb, 'vanished', '[]'::jsonb, 'replaced', '[]'::jsonb,
            'rematch', false, 'user_id', it.user_id);
    end if;
    select coalesce(array_agg(plaid_account_id), '{}') into known from syncdesk.accounts
        where item_id = p_item and closed_at is null;
    perform syncdesk.put_accounts(p_item, it.user_id, p_accounts);
    update syncdesk.accounts set seen_at = clock_timestamp(), replaced_by = null where item_id = p_item
        and plaid_account_id in (select a ->> 'account_id' from jsonb_array_elements(p_accounts) a);
    select coalesce(array_agg(a ->> 'account_id'), '{}') into appeared from jsonb_array_elements(p_accounts) a
        where a ->> 'account_id' <> all (known);
    for gone in
        update syncdesk.accounts set closed_at = clock_timestamp(), silent_since = null
        where item_id = p_item and closed_at is null
            and plaid_account_id not in (select a ->> 'account_id' from jsonb_array_elements(p_accounts) a)
        returning *
    loop
        vanished := vanished || gone.plaid_account_id;
        select min(n.plaid_account_id) into heir from syncdesk.accounts n
            where n.item_id = p_item and n.plaid_account_id = any (appeared)
                and coalesce(n.persistent_account_id = gone.persistent_account_id,
                    n.mask = gone.mask and n.name = gone.name and n.type = gone.type
                        and n.subtype is not distinct from gone.subtype)
            having count(*) = 1;
        continue when heir is null;
        update syncdesk.accounts set replaced_by = heir where id = gone.id;
        replaced := replaced || gone.plaid_account_id;
        update syncdesk.bills set account_id = heir, updated_at = now()
            where user_id = it.user_id and account_id = gone.plaid_account_id;
        get diagnostics moved = row_count;
        rematch_ := rematch_ or moved > 0;
    end loop;
    if rematch_ then
        update syncdesk.users set rematch_wanted = true, match_version = match_version + 1 where id = it.user_id;
    end if;
    update syncdesk.items set accounts_at = clock_timestamp() where id = p_item;
    return jsonb_build_object('appeared', appeared, 'vanished', vanished, 'replaced', replaced, 'rematch', rematch_,
        'user_id', it.user_id);
end $$;

-- Links whose list of accounts was not read for a day. Each is given out once an hour at most.
create function public.syncdesk_accounts_due(p_limit integer) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '10s' as $$
declare
    due jsonb;
begin
    with due_ as (
        select id from syncdesk.items
        where removed_at is null and paused_at is null and state in ('healthy', 'expiring')
            and coalesce(accounts_at, '-infinity') <= clock_timestamp() - interval '1 day'
        order by accounts_at nulls first, id limit p_limit for no key update skip locked
    ), set_ as (
        update syncdesk.items i set accounts_at = clock_timestamp() - interval '23 hours'
        from due_ where i.id = due_.id returning i.id
    )
    select coalesce(jsonb_agg(id), '[]') into due from set_;
    return jsonb_build_object('items', due);
end $$;

-- ---------------------------------------------------------------- silence

-- The longest time, in days, that an account went without a transaction; null where too little is known of it.
create function syncdesk.longest_silence(p_item uuid, p_account text) returns integer
language sql stable set search_path = '' as $$
    select max(gap) from (
        select date - lag(date) over (order by date) as gap, count(*) over () as n from (
            select distinct date from syncdesk.transactions
            where item_id = p_item and account_id = p_account and removed_at is null and date > current_date - 400
        ) days
    ) gaps where n >= 8
$$;

-- Accounts of links that sync well, without news for half as long again as ever (and a week at least): one quiet notice
-- each, until there is news. Answers how many are told now.
create function public.syncdesk_accounts_silent(p_correlation text) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '60s' as $$
declare
    a record;
    n integer := 0;
begin
    update syncdesk.accounts set silent_since = null
        -- It was silent for eight days at least when it was told of: anything younger came since.
        where silent_since is not null and newest_data_at >= silent_since - interval '8 days';
    for a in
        select x.id, x.item_id, x.user_id, x.name, x.mask, i.institution_name, l.longest,
            current_date - x.newest_data_at::date as days
        from syncdesk.accounts x join syncdesk.items i on i.id = x.item_id,
            lateral (select syncdesk.longest_silence(x.item_id, x.plaid_account_id) as longest) l
        where x.closed_at is null and x.silent_since is null and x.newest_data_at < now() - interval '8 days'
            and i.removed_at is null and i.paused_at is null and i.state = 'healthy'
            and i.last_success_at > now() - interval '2 days'
            and current_date - x.newest_data_at::date > greatest(7, l.longest * 1.5)
            and l.longest is not null
        order by x.id
    loop
        update syncdesk.accounts set silent_since = clock_timestamp() where id = a.id and silent_since is null;
        continue when not found;
        insert into syncdesk.outbox (kind, user_id, item_id, correlation_id, payload)
        values ('account_silent', a.user_id, a.item_id, p_correlation, jsonb_build_object(
            'title', trim(a.institution_name || ': ' || a.name || ' ' || coalesce(a.mask, '')) || ' is quiet',
            'sentence', format('No transaction for %s days; the longest time without one was %s. '
                'The bank link itself works.', a.days, a.longest)));
        n := n + 1;
    end loop;
    return jsonb_build_object('told', n);
end $$;

-- ---------------------------------------------------------------- looking sooner

-- Linked, signed in again, or well again: its bank is about to have news.
create function syncdesk.quicken() returns trigger
language plpgsql set search_path = '' as $$
begin
    if tg_op = 'INSERT' or old.access_token is distinct from new.access_token
            or (old.state in ('needs_you', 'error', 'expiring') and new.state = 'healthy') then
        new.quick_until := clock_timestamp() + interval '2 minutes';
    end if;
    return new;
end $$;
create trigger items_quicken before insert or update of state, access_token on syncdesk.items
    for each row execute function syncdesk.quicken();

-- What past runs and webhooks say about when a link has news, and whether its webhooks come.
create function public.syncdesk_items_learn() returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '60s' as $$
declare
    n integer;
begin
    with hours as (
        select item_id, bit_or(1 << hour) as bits from (
            select item_id, extract(hour from started_at at time zone 'UTC')::integer as hour
            from syncdesk.sync_runs
            where state = 'done' and from_cursor is not null and added + modified + removed > 0
                and started_at > now() - interval '14 days'
            group by 1, 2 having count(distinct (started_at at time zone 'UTC')::date) >= 3
        ) usual group by item_id
    ), hooks as (
        select item_id, max(received_at) as at from syncdesk.inbox
        where item_id is not null and verified_by in ('jwt', 'hmac') and webhook_type = 'TRANSACTIONS'
            and received_at > now() - interval '7 days'
        group by item_id
    ), free as (
        select i.id from syncdesk.items i where i.removed_at is null order by i.id for no key update skip locked
    )
    update syncdesk.items i set usual_hours = coalesce(h.bits, 0),
        webhook_seen_at = greatest(i.webhook_seen_at, k.at)
    from free left join hours h on h.item_id = free.id left join hooks k on k.item_id = free.id
    where i.id = free.id and (i.usual_hours, i.webhook_seen_at)
        is distinct from (coalesce(h.bits, 0), greatest(i.webhook_seen_at, k.at));
    get diagnostics n = row_count;
    return jsonb_build_object('changed', n);
end $$;

-- How long after the last try a link is looked at again: a few seconds just after linking or repair; a third of the
-- base while no webhook of it came for three days, and a third at hours when it usually has news, but not under two
-- minutes (or the base, where that is less).
create function syncdesk.look_after(i syncdesk.items, p_base_s integer) returns interval
language sql stable as $$
    select case
        -- Never longer than `quicken` says, but by a clock that was ahead.
        when i.quick_until between clock_timestamp() and clock_timestamp() + interval '2 minutes'
            and i.state <> 'bank_trouble' then interval '5 seconds'
        else interval '1 second' * greatest(least(p_base_s, 120), p_base_s
            / case when i.state = 'bank_trouble' or coalesce(i.webhook_seen_at > clock_timestamp() - interval '3 days', false)
                then 1 else 3 end
            / case when i.state <> 'bank_trouble'
                and i.usual_hours & (1 << extract(hour from clock_timestamp() at time zone 'UTC')::integer) <> 0
                then 3 else 1 end)
    end
$$;

-- Links whose next look is due, longest ago first; none while the install's keys or plan are refused, since the base
-- schedule probes then.
create function public.syncdesk_items_want_due(p_base_s integer, p_limit integer, p_correlation text) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '10s' as $$
declare
    hints jsonb;
begin
    if exists (select from syncdesk.settings where key = 'install_trouble') then
        return jsonb_build_object('hints', '[]'::jsonb);
    end if;
    select coalesce(jsonb_agg(w), '[]') into hints from (
        select syncdesk.want(id, 'schedule', p_correlation, 'medium') as w from (
            select i.id from syncdesk.items i
            where i.removed_at is null and i.paused_at is null and i.wanted = i.done
                and i.state not in ('needs_you', 'error', 'removed')
                and (coalesce(i.last_attempt_at, i.created_at) + syncdesk.look_after(i, p_base_s) <= clock_timestamp()
                    or coalesce(i.last_attempt_at, i.created_at) > clock_timestamp()) -- a clock was ahead
            order by i.quick_until > clock_timestamp() desc nulls last, i.last_attempt_at nulls first, i.id
            limit p_limit for no key update skip locked
        ) due
    ) wishes where w is not null;
    return jsonb_build_object('hints', hints);
end $$;
