-- Rows that the database or their reader refused stay whole, are seen, and can be tried again.

-- Plaid's row as it came, as JSON text with what jsonb cannot hold (NUL, half a character) escaped; null where "body" is
-- the whole row in our own shape. tries: how often a person asked for another try.
alter table syncdesk.skipped_rows
    add column raw text,
    add column tries integer not null default 0,
    add column tried_at timestamptz;

-- Open entries of runs that were committed. A run that named a row again ended the entries before its own.
create view syncdesk.set_aside_now as
    select k.* from syncdesk.skipped_rows k join syncdesk.sync_runs r on r.id = k.run_id
    where k.resolved_at is null and r.state = 'done';

-- What a run tells of a row is newer than what was set aside before: a good version, another bad one, or its end.
-- p_rows null: the rows are staged. p_whole: the run named all that the bank has.
create function syncdesk.end_set_aside(p_item uuid, p_run uuid, p_rows syncdesk.stage[], p_whole boolean) returns void
language plpgsql set search_path = '' as $$
begin
    if not exists (select from syncdesk.skipped_rows
            where item_id = p_item and resolved_at is null and run_id <> p_run) then
        return;
    end if;
    update syncdesk.skipped_rows k set resolved_at = now()
        where k.item_id = p_item and k.resolved_at is null and k.run_id <> p_run and (p_whole or k.transaction_id in (
            select s.transaction_id from syncdesk.stage s where p_rows is null and s.run_id = p_run
            union all select s.transaction_id from unnest(p_rows) s
            union all select o.transaction_id from syncdesk.skipped_rows o where o.run_id = p_run));
end $$;

create or replace function public.syncdesk_sync_commit(
    p_run uuid, p_item uuid, p_fence bigint, p_from_cursor text, p_to_cursor text, p_pages integer, p_rows bigint,
    p_body text, p_accounts jsonb, p_update_status text, p_replay boolean, p_skipped jsonb, p_matches jsonb,
    p_match_version bigint, p_correlation text, p_timing jsonb
) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '120s' as $$
declare
    it syncdesk.items;
    run syncdesk.sync_runs;
    rows_ syncdesk.stage[];
    got record;
    matched jsonb;
    outbox_ bigint;
    tagged_ integer := 0;
    swept integer := 0;
    newest timestamptz;
    began timestamptz := clock_timestamp();
    version bigint;
    rematch_ boolean := false;
    last_body jsonb := p_body::jsonb;
    staged integer := p_pages - case when p_body is null then 0 else 1 end;
    complete boolean := p_update_status not in ('NOT_READY', 'INITIAL_UPDATE_COMPLETE');
    new_state text;
begin
    -- Not "for update": a webhook for this item is stored meanwhile, and its row refers to the item's.
    select * into it from syncdesk.items where id = p_item for no key update;
    select * into run from syncdesk.sync_runs where id = p_run;
    if run.state = 'done' then -- The answer to this call was lost; it was done.
        return jsonb_build_object('status', 'ok', 'added', run.added, 'modified', run.modified,
            'removed', run.removed, 'skipped', run.skipped, 'tagged', run.tagged, 'wanted_more', it.wanted > it.done,
            'lane', it.wanted_lane, 'outbox', null, 'repeated', true);
    end if;
    if it.id is null or run.state is distinct from 'running'
            or not exists (select from syncdesk.item_leases where item_id = p_item and fence = p_fence) then
        return jsonb_build_object('status', 'stale');
    end if;
    if it.cursor is distinct from p_from_cursor then return jsonb_build_object('status', 'moved'); end if;
    if run.pages <> staged
            or (staged > 0 and (select count(*) from syncdesk.stage where run_id = p_run) <> p_rows) then
        return jsonb_build_object('status', 'missing');
    end if;
    -- Also where the run saw no bills: one that was written meanwhile must not miss these rows.
    if p_matches is not null
            or exists (select from syncdesk.bills where user_id = it.user_id and archived_at is null) then
        select match_version into version from syncdesk.users where id = it.user_id for update;
        if version <> p_match_version then
            return jsonb_build_object('status', 'rematch', 'matching', syncdesk.match_inputs(it.user_id, p_item));
        end if;
    end if;

    if p_skipped is not null then
        insert into syncdesk.skipped_rows (item_id, user_id, run_id, transaction_id, reason, body, raw)
        select p_item, it.user_id, p_run, s ->> 'transaction_id', s ->> 'reason', s -> 'body', s ->> 'raw'
        from jsonb_array_elements(p_skipped) s;
    end if;
    if staged > 0 then
        insert into syncdesk.stage
            select (u).* from unnest(syncdesk.read_rows(p_run, p_item, it.user_id, staged, last_body)) u;
        select * into got from syncdesk.merge_staged(p_item, it.user_id, p_run, p_pages, p_correlation);
    else
        rows_ := syncdesk.read_rows(p_run, p_item, it.user_id, 0, last_body);
        select * into got from syncdesk.merge_page(rows_, p_item, it.user_id, p_run, p_correlation);
    end if;
    -- A replay names nothing as removed: what it did not bring is gone, once the bank gave everything.
    if p_replay and complete then
        swept := syncdesk.sweep_rows(p_item, it.user_id, p_run, rows_, p_correlation);
        got.removed := got.removed + swept;
    end if;
    if jsonb_array_length(p_accounts) > 0 then
        perform syncdesk.put_accounts(p_item, it.user_id, p_accounts);
    end if;
    newest := syncdesk.note_newest(p_item, p_run, rows_);
    if p_matches is null and version is not null then
        -- The version moves, so that a matching that began before this commit begins again.
        update syncdesk.users set rematch_wanted = true, match_version = match_version + 1 where id = it.user_id;
        rematch_ := true;
    elsif p_matches is not null then
        matched := syncdesk.apply_matches(it.user_id, p_run, p_correlation, p_matches);
        tagged_ := coalesce((matched ->> 'tagged')::integer, 0);
    end if;
    perform syncdesk.end_set_aside(p_item, p_run, rows_, p_replay and complete);

    -- Not ready yet is no progress: neither a cursor nor a success.
    new_state := case when p_update_status = 'NOT_READY' or nullif(p_to_cursor, '') is null then 'first_data'
        when it.state = 'expiring' then 'expiring' else 'healthy' end;
    update syncdesk.items set
        cursor = case when p_replay and not complete then null else nullif(p_to_cursor, '') end,
        update_status = p_update_status,
        done = greatest(done, run.wanted),
        state = new_state,
        state_code = case when new_state = 'expiring' then state_code end,
        state_since = case when state = new_state then state_since else clock_timestamp() end,
        next_probe_at = case when new_state = 'expiring' then next_probe_at end,
        last_success_at = case when new_state = 'first_data' then last_success_at else clock_timestamp() end,
        newest_data_at = greatest(newest_data_at, newest),
        transactions = transactions + got.balance - swept
        where id = p_item returning * into it;
    delete from syncdesk.item_leases where item_id = p_item and fence = p_fence;
    if got.added + got.modified + got.removed > 0 then
        insert into syncdesk.outbox (kind, user_id, item_id, correlation_id, payload)
        values ('transactions', it.user_id, p_item, p_correlation, jsonb_build_object(
            'added', got.added, 'modified', got.modified, 'removed', got.removed,
            'tagged', tagged_, 'trigger', run.trigger, 'institution', it.institution_name, 'first', run.from_cursor is null))
        returning id into outbox_;
    end if;
    delete from syncdesk.settings where key = 'install_trouble';
    if found then
        -- Whoever holds another item's row may wait for what we hold; it is in work, so it needs no wish.
        perform syncdesk.want(id, 'recovered', p_correlation, 'medium') from (
            select id from syncdesk.items where removed_at is null and paused_at is null and state <> 'error'
            order by id for no key update skip locked
        ) free;
    end if;
    update syncdesk.sync_runs set state = 'done', to_cursor = it.cursor, replay = p_replay, pages = p_pages,
        added = got.added, modified = got.modified, removed = got.removed,
        skipped = (select count(*) from syncdesk.skipped_rows where run_id = p_run), tagged = tagged_,
        finished_at = clock_timestamp(),
        timing = coalesce(p_timing, '{}') || jsonb_build_object(
            'commit_ms', round(extract(epoch from clock_timestamp() - began)::numeric * 1000, 2))
        where id = p_run returning * into run;
    return jsonb_build_object('status', 'ok', 'added', run.added, 'modified', run.modified, 'removed', run.removed,
        'skipped', run.skipped, 'tagged', tagged_, 'wanted_more', it.wanted > it.done, 'lane', it.wanted_lane,
        'state', it.state, 'outbox', outbox_, 'rematch', rematch_, 'timing', run.timing);
end $$;

-- ---------------------------------------------------------------- for the operator

create function public.syncdesk_set_aside_list(p_item uuid, p_after bigint, p_limit integer) returns jsonb
language sql stable security definer set search_path = '' set statement_timeout = '10s' as $$
    with page as (
        select k.*, row_number() over (order by k.id desc) as n from (
            select * from syncdesk.set_aside_now k
            where k.item_id = p_item and (p_after is null or k.id < p_after)
            order by k.id desc limit least(greatest(coalesce(p_limit, 50), 1), 500) + 1
        ) k
    ), cap as (select least(greatest(coalesce(p_limit, 50), 1), 500) as most)
    select jsonb_build_object(
        'rows', coalesce((select jsonb_agg(jsonb_build_object('id', p.id::text, 'transaction_id', p.transaction_id,
            'reason', p.reason, 'at', syncdesk.iso(p.at), 'tries', p.tries, 'tried_at', syncdesk.iso(p.tried_at))
            order by p.n) from page p, cap where p.n <= cap.most), '[]'),
        'total', (select count(*) from syncdesk.set_aside_now k where k.item_id = p_item),
        'next', (select min(p.id)::text from page p, cap where p.n <= cap.most
            having (select count(*) from page) > (select most from cap)))
$$;

-- The rows themselves, oldest first, to be tried again. p_ids null: all of the item's from p_after on.
create function public.syncdesk_set_aside_rows(p_item uuid, p_ids jsonb, p_after bigint, p_limit integer) returns jsonb
language sql stable security definer set search_path = '' set statement_timeout = '10s' as $$
    select coalesce(jsonb_agg(jsonb_build_object('id', k.id, 'raw', k.raw, 'body', k.body::text) order by k.id), '[]')
    from (
        select * from syncdesk.set_aside_now where item_id = p_item and id > coalesce(p_after, 0)
            and (p_ids is null or id in (select i::bigint from jsonb_array_elements_text(p_ids) i))
        order by id limit p_limit
    ) k
$$;

-- One row again. p_body: it in our own shape; null: its reader refuses it still, for p_reason.
-- Answers status done, refused (with the reason, which is kept), or gone (it was ended meanwhile).
create function public.syncdesk_set_aside_retry(p_id bigint, p_body text, p_reason text, p_correlation text)
returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '30s' as $$
declare
    entry syncdesk.skipped_rows;
    it syncdesk.items;
    rows_ syncdesk.stage[];
    got record;
    why text := p_reason;
    rule text;
begin
    select i.* into it from syncdesk.items i join syncdesk.set_aside_now k on k.item_id = i.id
        where k.id = p_id for no key update of i; -- as a commit does: one writer of an item's rows at a time
    select * into entry from syncdesk.set_aside_now where id = p_id;
    if it.id is null or entry.id is null or it.removed_at is not null then
        return jsonb_build_object('status', 'gone');
    end if;
    if p_body is not null then
        begin
            rows_ := array(select s from syncdesk.read_page(
                entry.run_id, 0, jsonb_build_object('added', jsonb_build_array(p_body::jsonb))) s);
            select * into got from syncdesk.merge_rows(rows_, it.id, it.user_id, entry.run_id, p_correlation);
            why := null;
        exception when integrity_constraint_violation or data_exception or program_limit_exceeded then
            get stacked diagnostics why = returned_sqlstate, rule = constraint_name;
            if rule = '' then get stacked diagnostics rule = column_name; end if;
            why := trim('sqlstate ' || why || ' ' || rule);
        end;
    end if;
    update syncdesk.skipped_rows set tries = tries + 1, tried_at = clock_timestamp(), reason = coalesce(why, reason),
        resolved_at = case when why is null then clock_timestamp() end where id = p_id;
    if why is not null then return jsonb_build_object('status', 'refused', 'reason', why); end if;
    update syncdesk.items set transactions = transactions + got.balance,
        newest_data_at = greatest(newest_data_at, syncdesk.note_newest(it.id, entry.run_id, rows_)) where id = it.id;
    if exists (select from syncdesk.bills where user_id = it.user_id and archived_at is null) then
        update syncdesk.users set rematch_wanted = true, match_version = match_version + 1 where id = it.user_id;
    end if;
    return jsonb_build_object('status', 'done');
end $$;
