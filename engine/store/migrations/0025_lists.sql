-- Bank links and their runs as the API lists them: pages by keyset, in the shapes of engine/api/types_banks.py.

create view syncdesk.items_now as
    select i.id, i.plaid_item_id, i.user_id, u.name as user_name, i.institution_id, i.institution_name, i.label,
        case when i.removed_at is not null then 'removed'
            when i.paused_at is not null then 'paused'
            when l.item_id is not null then 'syncing'
            else i.state end as state,
        i.state_code, i.transactions, i.last_success_at, i.newest_data_at, i.expires_at, i.created_at, l.run_id
    from syncdesk.items i
        join syncdesk.users u on u.id = i.user_id
        left join syncdesk.item_leases l on l.item_id = i.id and l.expires_at > clock_timestamp();

-- types.Item; title, sentence and action are words, added where words live. The next sync is the base schedule's, or the
-- sooner look.
create function syncdesk.item_json(i syncdesk.items_now) returns jsonb
language sql stable set search_path = '' as $$
    select jsonb_build_object('id', i.id, 'plaid_item_id', i.plaid_item_id, 'user_id', i.user_id,
        'user', i.user_name, 'institution_id', i.institution_id, 'institution', i.institution_name, 'label', i.label,
        'state', i.state, 'state_code', i.state_code, 'title', '', 'sentence', '', 'action', null,
        'accounts', (select count(*) from syncdesk.accounts a where a.item_id = i.id and a.closed_at is null),
        'transactions', i.transactions, 'last_success_at', syncdesk.iso(i.last_success_at),
        'newest_data_at', syncdesk.iso(i.newest_data_at),
        'next_sync_at', case when i.state in ('paused', 'removed', 'needs_you', 'error') then null else
            (select syncdesk.iso(least(s.next_run_at, greatest(clock_timestamp(), coalesce(x.last_attempt_at, x.created_at)
                    + syncdesk.look_after(x, coalesce((s.trigger ->> 'every_s')::numeric::integer, 900)))))
                from syncdesk.schedule s, syncdesk.items x
                where s.id = 'backup_sync' and s.paused_at is null and s.next_run_at is not null and x.id = i.id) end,
        'lag_s', round(extract(epoch from clock_timestamp() - i.last_success_at)::numeric, 1)::float8,
        'progress', (select r.added from syncdesk.sync_runs r where r.id = i.run_id and r.state = 'running'))
$$;

create function public.syncdesk_items_list(p_state text, p_q text, p_after text, p_limit integer) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '10s' as $$
declare
    items_ jsonb;
    counts_ jsonb;
    last_ text;
    n integer;
    cap integer := least(greatest(coalesce(p_limit, 100), 1), 500);
begin
    with found_ as (
        select i, lower(i.institution_name) || chr(1) || i.id::text as k from syncdesk.items_now i
        where (p_state is null or i.state = p_state)
            and (coalesce(p_q, '') = '' or position(lower(p_q) in lower(
                i.institution_name || ' ' || i.label || ' ' || i.user_name || ' ' || i.id::text)) > 0)
            -- Removed links are shown only where they are asked for.
            and (p_state is not null or i.state <> 'removed')
    ), page as (
        select * from found_ where p_after is null or k collate "C" > convert_from(decode(p_after, 'hex'), 'UTF8') collate "C"
        order by k collate "C" limit cap + 1
    ), numbered as (select *, row_number() over (order by k collate "C") as n from page)
    select coalesce(jsonb_agg(syncdesk.item_json(p.i) order by p.n) filter (where p.n <= cap), '[]'), count(*),
        max(p.k) filter (where p.n = cap)
    into items_, n, last_ from numbered p;
    select coalesce(jsonb_object_agg(state, c), '{}') into counts_
        from (select state, count(*) as c from syncdesk.items_now group by state) s;
    return jsonb_build_object('items', items_, 'counts', counts_,
        'next', case when n > cap then encode(convert_to(last_, 'UTF8'), 'hex') end);
end $$;

create function public.syncdesk_runs_list(p_item uuid, p_after text, p_limit integer) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '10s' as $$
declare
    cap integer := least(greatest(coalesce(p_limit, 20), 1), 500);
    runs_ jsonb;
    n integer;
    last_ text;
begin
    with page as (
        select r.* from syncdesk.sync_runs r where (p_item is null or r.item_id = p_item)
            and (p_after is null or (r.started_at, r.id) <
                (split_part(p_after, '/', 1)::timestamptz, split_part(p_after, '/', 2)::uuid))
        order by r.started_at desc, r.id desc limit cap + 1
    ), numbered as (select *, row_number() over (order by started_at desc, id desc) as n from page)
    select coalesce(jsonb_agg(jsonb_build_object('id', p.id, 'trigger', p.trigger,
            'started_at', syncdesk.iso(p.started_at),
            'duration_ms', round(extract(epoch from p.finished_at - p.started_at)::numeric * 1000, 1)::float8,
            'state', p.state, 'pages', p.pages, 'added', p.added, 'modified', p.modified, 'removed', p.removed,
            'skipped', p.skipped, 'tagged', p.tagged, 'error_code', p.error ->> 'code',
            'correlation_id', p.correlation_id) order by p.n) filter (where p.n <= cap), '[]'),
        count(*), max(p.started_at::text || '/' || p.id::text) filter (where p.n = cap)
    into runs_, n, last_ from numbered p;
    return jsonb_build_object('runs', runs_, 'next', case when n > cap then last_ end);
end $$;

-- types.ItemDetail; "removes" is words, added where words live.
create function public.syncdesk_item_get(p_item uuid) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '10s' as $$
declare
    item_ jsonb;
begin
    select syncdesk.item_json(i) into item_ from syncdesk.items_now i where i.id = p_item;
    if item_ is null then raise exception using errcode = 'SD404', message = 'There is no such bank link.'; end if;
    return jsonb_build_object('item', item_,
        'accounts', coalesce((select jsonb_agg(jsonb_build_object('id', a.id, 'name', a.name, 'mask', a.mask,
            'type', a.type, 'currency', coalesce(a.iso_currency_code, a.unofficial_currency_code),
            'balance', a.balance_current::text, 'newest_data_at', syncdesk.iso(a.newest_data_at),
            'last_success_at', case when a.closed_at is null then item_ ->> 'last_success_at' end,
            'silent_since', syncdesk.iso(a.silent_since), 'closed_at', syncdesk.iso(a.closed_at),
            'replaced_by', (select n.id from syncdesk.accounts n
                where n.item_id = p_item and n.plaid_account_id = a.replaced_by)) order by a.closed_at is not null, a.name, a.id)
            from syncdesk.accounts a where a.item_id = p_item), '[]'),
        'runs', public.syncdesk_runs_list(p_item, null, 20) -> 'runs',
        'removes', '');
end $$;
