-- The commit of a run: rows with their history, cursor, accounts, matches, record, outbox, all or nothing.

-- Whose matching is due, for the sweep.
create function public.syncdesk_rematches_due() returns jsonb
language sql stable security definer set search_path = '' set statement_timeout = '5s' as $$
    select jsonb_build_object('users', coalesce(jsonb_agg(id order by id), '[]')) from syncdesk.users where rematch_wanted
$$;

-- What was once written about a transaction stays as it was written.
create function syncdesk.history_stays() returns trigger
language plpgsql set search_path = '' as $$
begin
    raise exception using errcode = 'object_not_in_prerequisite_state',
        message = 'The history of transactions is only added to.';
end $$;
create trigger transaction_history_stays before update or delete on syncdesk.transaction_history
    for each statement execute function syncdesk.history_stays();

create function syncdesk.drop_transactions() returns trigger
language plpgsql set search_path = '' as $$
begin
    delete from syncdesk.transactions where item_id = old.id;
    return null;
end $$;
create trigger items_transactions after delete on syncdesk.items
    for each row execute function syncdesk.drop_transactions();

-- Merge at most one page of rows. History first (it needs what was there before), then the rows.
create function syncdesk.merge_rows(
    p_rows syncdesk.stage[], p_item uuid, p_user uuid, p_run uuid, p_correlation text,
    out added integer, out modified integer, out removed integer, out balance integer
)
language plpgsql set search_path = '' as $$
declare
    posted record;
begin
    with seen as (
        select s, t.id as known, t.removed_at, t.replaced_by, p.transaction_id as pending_id, p.note, p.person_category,
            syncdesk.bank_row_of(s) as new_row,
            case when t.id is not null then syncdesk.bank_row_of(t.whole) end as old_row
        -- "limit 1" makes each a look into the unique index, whatever the statistics say.
        from unnest(p_rows) s
            left join lateral (select x as whole, x.id, x.removed_at, x.replaced_by from syncdesk.transactions x
                where x.item_id = p_item and x.transaction_id = s.transaction_id limit 1) t on true
            left join lateral (select * from syncdesk.transactions
                where item_id = p_item and transaction_id = s.pending_transaction_id
                    and not coalesce(s.pending, false) and replaced_by is null limit 1) p on true
        where s.kind <> 'removed'
    ), written as (
        insert into syncdesk.transaction_history
            (item_id, user_id, transaction_id, change, old, new, source, run_id, correlation_id)
        select p_item, p_user, (s).transaction_id,
            case when known is null then case when pending_id is null then 'added' else 'posted' end
                when removed_at is not null then 'restored'
                when (old_row).pending and not (new_row).pending then 'posted'
                else 'modified' end,
            case when known is not null then
                    syncdesk.changed(syncdesk.bank_json(old_row), syncdesk.bank_json(new_row))
                    || case when removed_at is null then '{}'::jsonb else '{"removed": true}' end
                when pending_id is not null then jsonb_build_object('transaction_id', pending_id) end,
            case when known is not null then
                    syncdesk.changed(syncdesk.bank_json(new_row), syncdesk.bank_json(old_row))
                    || case when removed_at is null then '{}'::jsonb else '{"removed": false}' end
                    || case when replaced_by is null then '{}'::jsonb else '{"replaced_by": null}' end
                when pending_id is not null then (s).body
                    || jsonb_strip_nulls(jsonb_build_object('note', note, 'person_category', person_category))
                else (s).body end,
            'run', p_run, p_correlation
        from seen
        where known is null or removed_at is not null or new_row is distinct from old_row
        order by (s).kind, (s).position
        returning change, old
    )
    select count(*) filter (where written.change = 'added' or (written.change = 'posted' and written.old ? 'transaction_id')),
        count(*) filter (where written.change in ('modified', 'restored')
            or (written.change = 'posted' and not written.old ? 'transaction_id')),
        count(*) filter (where written.change in ('added', 'restored')
            or (written.change = 'posted' and written.old ? 'transaction_id'))
    into added, modified, balance from written;

    insert into syncdesk.transactions as t (item_id, user_id, transaction_id, account_id, amount, iso_currency_code,
        unofficial_currency_code, date, authorized_date, datetime, authorized_datetime, name, merchant_name,
        merchant_entity_id, original_description, payment_channel, check_number, pending, pending_transaction_id,
        category_primary, category_detailed, category_confidence, category_version, extra, first_run, last_run)
    select p_item, p_user, (r).*, p_run, p_run
    from (select syncdesk.bank_row_of(s) as r from unnest(p_rows) s where s.kind <> 'removed'
        order by s.kind, s.position) rows_
    on conflict (item_id, transaction_id) do update set
        account_id = excluded.account_id, amount = excluded.amount, iso_currency_code = excluded.iso_currency_code,
        unofficial_currency_code = excluded.unofficial_currency_code, date = excluded.date,
        authorized_date = excluded.authorized_date, datetime = excluded.datetime,
        authorized_datetime = excluded.authorized_datetime, name = excluded.name,
        merchant_name = excluded.merchant_name, merchant_entity_id = excluded.merchant_entity_id,
        original_description = excluded.original_description, payment_channel = excluded.payment_channel,
        check_number = excluded.check_number, pending = excluded.pending,
        pending_transaction_id = excluded.pending_transaction_id, category_primary = excluded.category_primary,
        category_detailed = excluded.category_detailed, category_confidence = excluded.category_confidence,
        category_version = excluded.category_version, extra = excluded.extra,
        last_run = excluded.last_run, updated_at = now(), removed_at = null, replaced_by = null
    where t.removed_at is not null or syncdesk.bank_row_of(t) is distinct from syncdesk.bank_row_of(excluded);

    for posted in
        select s.transaction_id as now_id, p.transaction_id as was_id
        from unnest(p_rows) s
            cross join lateral (select * from syncdesk.transactions
                where item_id = p_item and transaction_id = s.pending_transaction_id and replaced_by is null limit 1) p
        where s.pending_transaction_id is not null and s.kind <> 'removed' and not coalesce(s.pending, false)
            and s.pending_transaction_id <> s.transaction_id
    loop
        balance := balance - syncdesk.take_over(p_item, p_user, posted.was_id, posted.now_id, p_run, p_correlation);
    end loop;

    removed := syncdesk.remove_rows(
        p_item, p_user, array(select s.transaction_id from unnest(p_rows) s where s.kind = 'removed'), p_run,
        p_correlation);
    balance := balance - removed;
end $$;

-- A pending transaction was posted under a new id: what the person or the matcher attached moves over, once.
-- Answers how many live rows went by it.
create function syncdesk.take_over(
    p_item uuid, p_user uuid, p_was text, p_now text, p_run uuid, p_correlation text
) returns integer
language plpgsql set search_path = '' as $$
declare
    was syncdesk.transactions;
    told boolean;
begin
    select * into was from syncdesk.transactions
        where item_id = p_item and transaction_id = p_was and replaced_by is null for update;
    if not found then return 0; end if;
    update syncdesk.transactions n
        set note = coalesce(n.note, was.note), person_category = coalesce(n.person_category, was.person_category)
        where n.item_id = p_item and n.transaction_id = p_now
            and (n.note is null and was.note is not null or n.person_category is null and was.person_category is not null);
    if found then
        -- A new row's own line says it already; one that was known before needs another.
        select h.change = 'posted' and h.old ? 'transaction_id' into told from syncdesk.transaction_history h
            where h.item_id = p_item and h.transaction_id = p_now order by h.id desc limit 1;
        if not told then
            insert into syncdesk.transaction_history
                (item_id, user_id, transaction_id, change, new, source, run_id, correlation_id)
            select p_item, p_user, p_now, 'noted', jsonb_strip_nulls(jsonb_build_object(
                'note', note, 'person_category', person_category)), 'run', p_run, p_correlation
            from syncdesk.transactions where item_id = p_item and transaction_id = p_now;
        end if;
    end if;
    update syncdesk.matches m set transaction_id = p_now, updated_at = now()
        where m.item_id = p_item and m.transaction_id = p_was
            and not exists (select from syncdesk.matches o where o.item_id = p_item and o.transaction_id = p_now);
    update syncdesk.match_labels set transaction_id = p_now where item_id = p_item and transaction_id = p_was;
    update syncdesk.transactions
        set replaced_by = p_now, removed_at = coalesce(removed_at, now()), last_run = p_run, updated_at = now()
        where id = was.id;
    insert into syncdesk.transaction_history
        (item_id, user_id, transaction_id, change, old, new, source, run_id, correlation_id)
    values (p_item, p_user, p_was, case when was.removed_at is null then 'removed' else 'modified' end, null,
        jsonb_build_object('removed', true, 'replaced_by', p_now), 'run', p_run, p_correlation);
    return case when was.removed_at is null then 1 else 0 end;
end $$;

-- Rows keep their history when they go; an id never seen is nothing.
create function syncdesk.remove_rows(
    p_item uuid, p_user uuid, p_ids text[], p_run uuid, p_correlation text
) returns integer
language plpgsql set search_path = '' as $$
declare
    n integer := 0;
begin
    if cardinality(p_ids) > 0 then
        with gone as (
            update syncdesk.transactions t set removed_at = now(), updated_at = now(), last_run = p_run
            where t.item_id = p_item and t.transaction_id = any (p_ids) and t.removed_at is null
            returning t.transaction_id
        )
        insert into syncdesk.transaction_history
            (item_id, user_id, transaction_id, change, new, source, run_id, correlation_id)
        select p_item, p_user, transaction_id, 'removed', '{"removed": true}', 'run', p_run, p_correlation from gone;
        get diagnostics n = row_count;
    end if;
    return n;
end $$;

-- A page whose rows meet a constraint: row by row, the refused ones set aside with the reason.
create function syncdesk.merge_page(
    p_rows syncdesk.stage[], p_item uuid, p_user uuid, p_run uuid, p_correlation text,
    out added integer, out modified integer, out removed integer, out skipped integer,
    out balance integer
)
language plpgsql set search_path = '' as $$
declare
    one syncdesk.stage;
    got record;
    why text;
    rule text;
begin
    skipped := 0;
    begin
        select m.added, m.modified, m.removed, m.balance into added, modified, removed, balance
            from syncdesk.merge_rows(p_rows, p_item, p_user, p_run, p_correlation) m;
        return;
    exception when integrity_constraint_violation or data_exception or program_limit_exceeded or cardinality_violation then
        added := 0; modified := 0; removed := 0; balance := 0;
    end;
    for one in select (u).* from unnest(p_rows) u order by (u).kind, (u).position loop
        begin
            select * into got from syncdesk.merge_rows(array[one], p_item, p_user, p_run, p_correlation);
            added := added + got.added; modified := modified + got.modified; removed := removed + got.removed;
            balance := balance + got.balance;
        exception when integrity_constraint_violation or data_exception or program_limit_exceeded then
            get stacked diagnostics why = returned_sqlstate, rule = constraint_name;
            if rule = '' then get stacked diagnostics rule = column_name; end if;
            insert into syncdesk.skipped_rows (item_id, user_id, run_id, transaction_id, reason, body)
            values (p_item, p_user, p_run, one.transaction_id, trim('sqlstate ' || why || ' ' || rule), one.body);
            skipped := skipped + 1;
        end;
    end loop;
end $$;

-- A first sync: nothing of the item is there yet, so no row needs a look at its past.
create function syncdesk.merge_first(p_item uuid, p_user uuid, p_run uuid, p_correlation text) returns integer
language plpgsql set search_path = '' as $$
declare
    n integer;
begin
    insert into syncdesk.transactions (item_id, user_id, transaction_id, account_id, amount, iso_currency_code,
        unofficial_currency_code, date, authorized_date, datetime, authorized_datetime, name, merchant_name,
        merchant_entity_id, original_description, payment_channel, check_number, pending, pending_transaction_id,
        category_primary, category_detailed, category_confidence, category_version, extra, first_run, last_run)
    select p_item, p_user, s.transaction_id, s.account_id, s.amount, s.iso_currency_code, s.unofficial_currency_code,
        s.date, s.authorized_date, s.datetime, s.authorized_datetime, coalesce(s.name, ''), s.merchant_name,
        s.merchant_entity_id, s.original_description, s.payment_channel, s.check_number, coalesce(s.pending, false),
        s.pending_transaction_id, s.category_primary, s.category_detailed, s.category_confidence,
        s.category_version, coalesce(s.extra, '{}'), p_run, p_run
    from syncdesk.stage s where s.run_id = p_run;
    get diagnostics n = row_count;
    insert into syncdesk.transaction_history
        (item_id, user_id, transaction_id, change, new, source, run_id, correlation_id)
    select p_item, p_user, s.transaction_id, 'added', s.body, 'run', p_run, p_correlation
    from syncdesk.stage s where s.run_id = p_run;
    return n;
end $$;

-- Everything staged, page by page in order; the first sync in one piece where it can be.
create function syncdesk.merge_staged(
    p_item uuid, p_user uuid, p_run uuid, p_pages integer, p_correlation text,
    out added integer, out modified integer, out removed integer, out skipped integer,
    out balance integer
)
language plpgsql set search_path = '' as $$
declare
    got record;
begin
    added := 0; modified := 0; removed := 0; skipped := 0; balance := 0;
    if not exists (select from syncdesk.transactions where item_id = p_item)
            and not exists (select from syncdesk.stage where run_id = p_run and kind <> 'added') then
        begin
            added := syncdesk.merge_first(p_item, p_user, p_run, p_correlation);
            balance := added;
            return;
        exception when integrity_constraint_violation or data_exception or program_limit_exceeded then
            added := 0; -- A row is refused, or an id comes twice: page by page finds out which.
        end;
    end if;
    for page_ in 0 .. p_pages - 1 loop
        select * into got from syncdesk.merge_page(
            array(select s from syncdesk.stage s where s.run_id = p_run and s.page = page_),
            p_item, p_user, p_run, p_correlation);
        added := added + got.added; modified := modified + got.modified;
        removed := removed + got.removed; skipped := skipped + got.skipped;
        balance := balance + got.balance;
    end loop;
end $$;

create function syncdesk.put_accounts(p_item uuid, p_user uuid, p_accounts jsonb) returns void
language sql set search_path = '' as $$
    insert into syncdesk.accounts as a (item_id, user_id, plaid_account_id, persistent_account_id, name, official_name,
        mask, type, subtype, iso_currency_code, unofficial_currency_code, balance_current, balance_available,
        balance_limit, balances_at)
    select p_item, p_user, r.account_id, r.persistent_account_id, coalesce(r.name, ''), r.official_name, r.mask,
        coalesce(r.type, 'other'), r.subtype, r.iso_currency_code, r.unofficial_currency_code, r.current, r.available,
        r."limit", now()
    from jsonb_to_recordset(p_accounts) r (account_id text, persistent_account_id text, name text, official_name text,
        mask text, type text, subtype text, iso_currency_code text, unofficial_currency_code text, current numeric,
        available numeric, "limit" numeric)
    on conflict (item_id, plaid_account_id) do update set
        persistent_account_id = excluded.persistent_account_id, name = excluded.name,
        official_name = excluded.official_name, mask = excluded.mask, type = excluded.type, subtype = excluded.subtype,
        iso_currency_code = excluded.iso_currency_code, unofficial_currency_code = excluded.unofficial_currency_code,
        balance_current = excluded.balance_current, balance_available = excluded.balance_available,
        balance_limit = excluded.balance_limit, balances_at = excluded.balances_at, closed_at = null
$$;

-- p_rows counts what was staged; p_body is the last (or only) page, which needs no staging.
-- p_matches null: the run did not look (no bills, or pages from before it waited); where there are bills, a matching
-- of everything is wished for and the answer says rematch. Answers status ok, or says why nothing was done:
-- stale (another run took over), moved (the cursor is not the one the run began from), missing
-- (staged pages were lost: start again), rematch (bills changed meanwhile: plan again and call again).
create function public.syncdesk_sync_commit(
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

-- After the commit of a run that was staged: nobody waits for this, and the sweep does it too.
create function public.syncdesk_sync_clear(p_run uuid) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '30s' as $$
begin
    perform syncdesk.no_wait();
    delete from syncdesk.stage where run_id = p_run;
    return '{}';
end $$;

-- The newest day the bank told of, for the item and each account. p_rows null: the rows are staged.
create function syncdesk.note_newest(p_item uuid, p_run uuid, p_rows syncdesk.stage[]) returns timestamptz
language plpgsql set search_path = '' as $$
declare
    newest timestamptz;
begin
    with days as (
        select account_id, max(coalesce(datetime, date::timestamptz)) as day from (
            select s.account_id, s.datetime, s.date from syncdesk.stage s
                where p_rows is null and s.run_id = p_run and s.kind <> 'removed'
            union all
            select s.account_id, s.datetime, s.date from unnest(p_rows) s where s.kind <> 'removed'
        ) days_ group by account_id
    ), noted as (
        update syncdesk.accounts a set newest_data_at = greatest(a.newest_data_at, d.day)
        from days d where a.item_id = p_item and a.plaid_account_id = d.account_id
    )
    select max(day) into newest from days;
    return newest;
end $$;

create function syncdesk.sweep_rows(
    p_item uuid, p_user uuid, p_run uuid, p_rows syncdesk.stage[], p_correlation text
) returns integer
language plpgsql set search_path = '' as $$
declare
    ids text[];
begin
    select array_agg(transaction_id) into ids from (
        select transaction_id from syncdesk.transactions where item_id = p_item and removed_at is null
        except select transaction_id from syncdesk.stage where p_rows is null and run_id = p_run
        except select transaction_id from unnest(p_rows) s
        except select transaction_id from syncdesk.skipped_rows where run_id = p_run
    ) missing;
    return syncdesk.remove_rows(p_item, p_user, coalesce(ids, '{}'), p_run, p_correlation);
end $$;
