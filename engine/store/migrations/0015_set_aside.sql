-- Rows that the database or their reader refused stay whole, are seen, and can be tried again.

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
