-- What became of pending transactions whose posted form does not name them, what a person attaches, and history as of
-- any moment.

create index transactions_vanished on syncdesk.transactions (item_id)
    where pending and removed_at is not null and replaced_by is null;
create index transactions_taken_over on syncdesk.transactions (item_id, replaced_by) where replaced_by is not null;

-- Links that Plaid left out and we supplied; one that was undone is never guessed again.
create table syncdesk.posting_guesses (
    item_id    uuid not null references syncdesk.items (id) on delete cascade,
    user_id    uuid not null,
    pending_id text not null,
    posted_id  text not null,
    moved      jsonb not null default '{}',          -- note, person_category and ids of matches that went over
    at         timestamptz not null default clock_timestamp(),
    undone_at  timestamptz,
    primary key (item_id, pending_id, posted_id)
);

-- ---------------------------------------------------------------- guessed links

-- How well a posted row fits a pending one that went: 3 same amount and name, 2 same amount, 1 same name and an amount
-- that a tip or a hold explains. Null: not at all.
create function syncdesk.posting_fit(was syncdesk.transactions, now_ syncdesk.transactions) returns integer
language sql stable as $$
    select case
        when was.amount = now_.amount and s.same then 3
        when was.amount = now_.amount then 2
        when s.same and sign(was.amount) = sign(now_.amount)
            and (abs(was.amount) <= 1 or abs(now_.amount - was.amount) * 3 <= abs(was.amount)) then 1
    end
    from (select lower(was.name) = lower(now_.name)
        or coalesce(was.merchant_entity_id = now_.merchant_entity_id, false)
        or coalesce(lower(was.merchant_name) = lower(now_.merchant_name), false) as same) s
$$;

-- Pending rows of the item that went without a successor, and the one posted row each may have become. Where two are
-- as good, nothing is guessed, unless they are alike in all that was looked at.
create function syncdesk.posting_pairs(p_item uuid, p_fit integer)
returns table (pending_id text, posted_id text)
language sql stable set search_path = '' as $$
    with pairs as (
        select w.transaction_id as was, n.transaction_id as now_, abs(n.date - w.date) as days
        from syncdesk.transactions w
            join syncdesk.transactions n on n.user_id = w.user_id and n.item_id = w.item_id and n.account_id = w.account_id
        where w.item_id = p_item and w.pending and w.replaced_by is null
            and w.removed_at > clock_timestamp() - interval '14 days'
            and not n.pending and n.removed_at is null
            and coalesce(n.iso_currency_code, n.unofficial_currency_code)
                is not distinct from coalesce(w.iso_currency_code, w.unofficial_currency_code)
            and n.date between w.date - 1 and w.date + 10
            and n.created_at >= w.created_at
            and n.created_at between w.removed_at - interval '3 days' and w.removed_at + interval '3 days'
            and syncdesk.posting_fit(w, n) = p_fit
            and not exists (select from syncdesk.transactions o
                where o.item_id = p_item and o.replaced_by = n.transaction_id)
            and not exists (select from syncdesk.posting_guesses g
                where g.item_id = p_item and g.pending_id = w.transaction_id and g.posted_id = n.transaction_id)
    ), counted as (
        select *, count(*) over (partition by was) as by_was, count(*) over (partition by now_) as by_now from pairs
    )
    select was, now_ from counted where p_fit = 3 or (by_was = 1 and by_now = 1) order by days, was, now_
$$;

-- What a person attached to one row goes to another. Answers what went.
create function syncdesk.move_attached(p_item uuid, p_user uuid, p_was text, p_now text) returns jsonb
language plpgsql set search_path = '' as $$
declare
    was syncdesk.transactions;
    is_ syncdesk.transactions;
    gone record;
    moved jsonb := '{}';
begin
    select * into was from syncdesk.transactions where item_id = p_item and transaction_id = p_was for update;
    select * into is_ from syncdesk.transactions where item_id = p_item and transaction_id = p_now for update;
    if is_.note is null and was.note is not null then
        moved := moved || jsonb_build_object('note', was.note);
    end if;
    if is_.person_category is null and was.person_category is not null then
        moved := moved || jsonb_build_object('person_category', was.person_category);
    end if;
    update syncdesk.transactions set note = coalesce(is_.note, was.note),
        person_category = coalesce(is_.person_category, was.person_category), updated_at = now() where id = is_.id;
    if exists (select from syncdesk.matches where item_id = p_item and transaction_id = p_was
                and state in ('confirmed', 'assigned', 'rejected'))
            and not exists (select from syncdesk.matches where item_id = p_item and transaction_id = p_now
                and state in ('confirmed', 'assigned', 'rejected')) then
        select * into gone from syncdesk.withdraw(p_user, p_item, p_now, null, null, 'matcher', null, null);
        with went as (
            update syncdesk.matches set transaction_id = p_now, updated_at = now()
            where item_id = p_item and transaction_id = p_was and state in ('confirmed', 'assigned', 'rejected')
            returning id
        )
        select moved || jsonb_build_object('matches', jsonb_agg(id)) into moved from went;
        update syncdesk.match_labels set transaction_id = p_now where item_id = p_item and transaction_id = p_was;
        update syncdesk.users set rematch_wanted = true, match_version = match_version + 1 where id = p_user;
    end if;
    return moved;
end $$;

-- A guessed link is none: what went over goes back, unless it was changed since.
create function syncdesk.undo_guess(
    g syncdesk.posting_guesses, p_source text, p_run uuid, p_correlation text
) returns void
language plpgsql set search_path = '' as $$
declare
    is_ syncdesk.transactions;
    back jsonb;
begin
    select * into is_ from syncdesk.transactions
        where item_id = g.item_id and transaction_id = g.posted_id for update;
    select coalesce(jsonb_object_agg(key, null::text), '{}') into back from jsonb_each_text(g.moved - 'matches')
        where value = case key when 'note' then is_.note else is_.person_category end;
    update syncdesk.posting_guesses set undone_at = clock_timestamp()
        where item_id = g.item_id and pending_id = g.pending_id and posted_id = g.posted_id;
    update syncdesk.transactions set note = case when back ? 'note' then null else note end,
        person_category = case when back ? 'person_category' then null else person_category end, updated_at = now()
        where id = is_.id;
    update syncdesk.transactions set replaced_by = null, updated_at = now()
        where item_id = g.item_id and transaction_id = g.pending_id and replaced_by = g.posted_id;
    if g.moved ? 'matches' then
        update syncdesk.matches set transaction_id = g.pending_id, updated_at = now()
            where id::text in (select jsonb_array_elements_text(g.moved -> 'matches')) and transaction_id = g.posted_id;
        update syncdesk.match_labels set transaction_id = g.pending_id
            where item_id = g.item_id and transaction_id = g.posted_id and at < g.at;
        update syncdesk.users set rematch_wanted = true, match_version = match_version + 1 where id = g.user_id;
    end if;
    insert into syncdesk.transaction_history
        (item_id, user_id, transaction_id, change, old, new, source, run_id, correlation_id)
    values
        (g.item_id, g.user_id, g.posted_id, 'modified', (g.moved - 'matches') || '{"guessed": true}',
            back || '{"guessed": null}', p_source, p_run, p_correlation),
        (g.item_id, g.user_id, g.pending_id, 'modified', jsonb_build_object('replaced_by', g.posted_id),
            '{"replaced_by": null}', p_source, p_run, p_correlation);
end $$;

create function public.syncdesk_posting_undo(p_id bigint, p_correlation text) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '10s' as $$
declare
    g syncdesk.posting_guesses;
begin
    select g_.* into g from syncdesk.posting_guesses g_
        join syncdesk.transactions t on t.item_id = g_.item_id and t.transaction_id = g_.posted_id
        where t.id = p_id and g_.undone_at is null for update of g_;
    if not found then
        raise exception using errcode = 'SD409', message = 'No link of this transaction was guessed.';
    end if;
    perform syncdesk.undo_guess(g, 'person', null, p_correlation);
    return jsonb_build_object('user_id', g.user_id, 'rematch', g.moved ? 'matches');
end $$;

-- After a run: guesses what became of the item's pending rows that went; takes back what the bank now tells otherwise.
-- Answers how many were guessed, and whether a matching is due.
create function public.syncdesk_postings_guess(p_item uuid, p_run uuid, p_correlation text) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '15s' as $$
declare
    it syncdesk.items;
    pair record;
    g syncdesk.posting_guesses;
    moved_ jsonb;
    n integer := 0;
    rematch_ boolean := false;
begin
    if not exists (select from syncdesk.transactions
                where item_id = p_item and pending and removed_at is not null and replaced_by is null)
            and not exists (select from syncdesk.posting_guesses where item_id = p_item and undone_at is null) then
        return jsonb_build_object('guessed', 0, 'rematch', false);
    end if;
    -- A run that commits meanwhile may bring the link itself.
    select * into it from syncdesk.items where id = p_item for no key update;
    for g in
        select g_.* from syncdesk.posting_guesses g_
            join syncdesk.transactions w on w.item_id = p_item and w.transaction_id = g_.pending_id
        where g_.item_id = p_item and g_.undone_at is null and (w.removed_at is null
            or exists (select from syncdesk.transactions n where n.item_id = p_item and n.removed_at is null
                and n.pending_transaction_id = g_.pending_id and n.transaction_id <> g_.posted_id and not n.pending))
    loop
        perform syncdesk.undo_guess(g, 'run', p_run, p_correlation);
        perform syncdesk.take_over(p_item, it.user_id, g.pending_id, n.transaction_id, p_run, p_correlation)
            from syncdesk.transactions n, syncdesk.transactions w
            where n.item_id = p_item and n.pending_transaction_id = g.pending_id and n.removed_at is null
                and not n.pending and w.item_id = p_item and w.transaction_id = g.pending_id
                and w.removed_at is not null;
        rematch_ := rematch_ or g.moved ? 'matches';
    end loop;
    for fit in reverse 3 .. 1 loop
        for pair in select * from syncdesk.posting_pairs(p_item, fit) loop
            continue when exists (select from syncdesk.transactions where item_id = p_item
                and (transaction_id = pair.pending_id and replaced_by is not null or replaced_by = pair.posted_id));
            moved_ := syncdesk.move_attached(p_item, it.user_id, pair.pending_id, pair.posted_id);
            update syncdesk.transactions set replaced_by = pair.posted_id, updated_at = now()
                where item_id = p_item and transaction_id = pair.pending_id;
            insert into syncdesk.posting_guesses (item_id, user_id, pending_id, posted_id, moved)
            values (p_item, it.user_id, pair.pending_id, pair.posted_id, moved_);
            insert into syncdesk.transaction_history
                (item_id, user_id, transaction_id, change, old, new, source, run_id, correlation_id)
            values
                (p_item, it.user_id, pair.posted_id, 'posted', jsonb_build_object('transaction_id', pair.pending_id),
                    (moved_ - 'matches') || '{"guessed": true}', 'matcher', p_run, p_correlation),
                (p_item, it.user_id, pair.pending_id, 'modified', '{"replaced_by": null}',
                    jsonb_build_object('replaced_by', pair.posted_id), 'matcher', p_run, p_correlation);
            rematch_ := rematch_ or moved_ ? 'matches';
            n := n + 1;
        end loop;
    end loop;
    return jsonb_build_object('guessed', n, 'rematch', rematch_, 'user_id', it.user_id);
end $$;

-- ---------------------------------------------------------------- history

-- A transaction as its history tells it, up to a moment (in milliseconds, as moments are shown). Null: it was not there
-- yet.
create function syncdesk.fold_history(p_item uuid, p_transaction text, p_until timestamptz) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
    state jsonb;
    line record;
begin
    for line in select change, new from syncdesk.transaction_history
        where item_id = p_item and transaction_id = p_transaction and date_trunc('milliseconds', at) <= p_until order by id
    loop
        state := jsonb_strip_nulls(coalesce(state, '{}') || coalesce(line.new, '{}'));
        if line.change = 'untagged' then state := state - 'bill_id' - 'period'; end if;
    end loop;
    return state;
end $$;

-- A row, its state at a moment (null: now), and the changes up to then, oldest first.
create function public.syncdesk_transaction_get(p_id bigint, p_as_of text default null) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '5s' as $$
declare
    t syncdesk.transactions;
    until_ timestamptz := coalesce(p_as_of::timestamptz, 'infinity');
begin
    select * into t from syncdesk.transactions where id = p_id;
    if not found then raise exception using errcode = 'SD404', message = 'There is no such transaction.'; end if;
    return jsonb_build_object('transaction', syncdesk.transaction_json(t),
        'state', syncdesk.fold_history(t.item_id, t.transaction_id, until_),
        'history', coalesce((select jsonb_agg(jsonb_build_object('at', syncdesk.iso(h.at), 'change', h.change,
            'old', h.old, 'new', h.new, 'source', h.source, 'run_id', h.run_id, 'correlation_id', h.correlation_id)
            order by h.id) from syncdesk.transaction_history h
            where h.item_id = t.item_id and h.transaction_id = t.transaction_id
                and date_trunc('milliseconds', h.at) <= until_), '[]'));
end $$;

-- p_changes: {"note": text or null, "person_category": text or null}, only what shall change.
create function public.syncdesk_transaction_annotate(p_id bigint, p_changes jsonb, p_correlation text) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '5s' as $$
declare
    t syncdesk.transactions;
begin
    select * into t from syncdesk.transactions where id = p_id for update;
    if not found then raise exception using errcode = 'SD404', message = 'There is no such transaction.'; end if;
    if t.removed_at is not null then
        raise exception using errcode = 'SD409', message = 'This transaction is no longer at the bank.';
    end if;
    insert into syncdesk.transaction_history (item_id, user_id, transaction_id, change, old, new, source, correlation_id)
    select t.item_id, t.user_id, t.transaction_id, c.change, jsonb_build_object(c.key, c.old),
        jsonb_build_object(c.key, p_changes ->> c.key), 'person', p_correlation
    from (values ('note', 'noted', t.note), ('person_category', 'categorised', t.person_category)) c (key, change, old)
    where p_changes ? c.key and c.old is distinct from (p_changes ->> c.key);
    update syncdesk.transactions set updated_at = now(),
        note = case when p_changes ? 'note' then p_changes ->> 'note' else note end,
        person_category = case when p_changes ? 'person_category' then p_changes ->> 'person_category'
            else person_category end
        where id = p_id returning * into t;
    return jsonb_build_object('transaction', syncdesk.transaction_json(t));
end $$;

-- ---------------------------------------------------------------- lists

-- Days after which a pending transaction is flagged as one that may never post. It is never removed by us.
create function syncdesk.never_posted(t syncdesk.transactions) returns boolean
language sql stable as $$ select t.pending and t.removed_at is null and t.date < current_date - 14 $$;

-- The same purchase under another link of the same login: shown, never merged.
create function syncdesk.maybe_twice(t syncdesk.transactions) returns boolean
language sql stable set search_path = '' as $$
    select exists (
        select from syncdesk.transactions o
            join syncdesk.items oi on oi.id = o.item_id
            join syncdesk.items ti on ti.id = t.item_id and ti.institution_id = oi.institution_id
            join syncdesk.accounts oa on oa.item_id = o.item_id and oa.plaid_account_id = o.account_id
            join syncdesk.accounts ta on ta.item_id = t.item_id and ta.plaid_account_id = t.account_id
        where o.user_id = t.user_id and o.date = t.date and o.item_id <> t.item_id and o.removed_at is null
            and t.removed_at is null and o.amount = t.amount and o.name = t.name
            and coalesce(oa.persistent_account_id = ta.persistent_account_id,
                oa.mask = ta.mask and oa.name = ta.name and oa.type = ta.type))
$$;

-- types.Transaction
create function syncdesk.transaction_json(t syncdesk.transactions) returns jsonb
language sql stable set search_path = '' as $$
    select jsonb_build_object('id', t.id::text, 'item_id', t.item_id, 'transaction_id', t.transaction_id,
        'account_id', t.account_id,
        'institution', (select institution_name from syncdesk.items where id = t.item_id),
        'date', t.date, 'authorized_date', t.authorized_date, 'name', t.name, 'merchant', t.merchant_name,
        'amount', t.amount::text, 'currency', coalesce(t.iso_currency_code, t.unofficial_currency_code),
        'pending', t.pending, 'removed', t.removed_at is not null, 'replaced_by', t.replaced_by,
        'category', t.category_detailed, 'person_category', t.person_category, 'note', t.note,
        'bill_id', (select bill_id from syncdesk.matches m where m.item_id = t.item_id
            and m.transaction_id = t.transaction_id and m.state in ('auto', 'confirmed', 'assigned')),
        'flags', array_remove(array[
            case when syncdesk.never_posted(t) then 'never_posted' end,
            case when exists (select from syncdesk.posting_guesses g where g.item_id = t.item_id
                and g.posted_id = t.transaction_id and g.undone_at is null) then 'posted_by_guess' end,
            case when syncdesk.maybe_twice(t) then 'maybe_twice' end], null))
$$;

-- Newest first. p_flag: never_posted, posted_by_guess, maybe_twice or removed; without it, what is at the bank.
create function public.syncdesk_transactions_list(
    p_user text, p_item uuid, p_q text, p_flag text, p_after text, p_limit integer
) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '15s' as $$
declare
    cap integer := least(greatest(coalesce(p_limit, 100), 1), 500);
    rows_ jsonb;
    n integer;
    last_ text;
    -- Only links with another one at the same bank can hold a purchase twice.
    twins uuid[] := case when p_flag = 'maybe_twice' then array(select i.id from syncdesk.items i
        where exists (select from syncdesk.items o
            where o.user_id = i.user_id and o.institution_id = i.institution_id and o.id <> i.id)) end;
begin
    with page as (
        select t from syncdesk.transactions t
        where (p_user is null or t.user_id = (select id from syncdesk.users where name = p_user))
            and (p_item is null or t.item_id = p_item)
            and (t.removed_at is null) = (p_flag is distinct from 'removed')
            and (p_flag is distinct from 'never_posted' or syncdesk.never_posted(t))
            and (p_flag is distinct from 'posted_by_guess' or exists (select from syncdesk.posting_guesses g
                where g.item_id = t.item_id and g.posted_id = t.transaction_id and g.undone_at is null))
            and (p_flag is distinct from 'maybe_twice' or (t.item_id = any (twins) and syncdesk.maybe_twice(t)))
            and (coalesce(p_q, '') = ''
                or position(lower(p_q) in lower(t.name || ' ' || coalesce(t.merchant_name, ''))) > 0)
            and (p_after is null or (t.date, t.id) < (split_part(p_after, '/', 1)::date, split_part(p_after, '/', 2)::bigint))
        order by t.date desc, t.id desc limit cap + 1
    ), numbered as (select t, row_number() over (order by (t).date desc, (t).id desc) as n from page)
    select coalesce(jsonb_agg(syncdesk.transaction_json(p.t) order by p.n) filter (where p.n <= cap), '[]'), count(*),
        max((p.t).date::text || '/' || (p.t).id) filter (where p.n = cap)
    into rows_, n, last_ from numbered p;
    return jsonb_build_object('transactions', rows_, 'next', case when n > cap then last_ end);
end $$;
