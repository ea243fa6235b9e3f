%% Traces: random supervision trees and what Erlang's own supervisor does with them, one line of JSON a trace.
%%
%% A trace is a tree, then steps. Each step suspends one supervisor, lets things happen to it (children exit, calls arrive), and
%% resumes it, so that it meets them in exactly this order. Then the recorder waits until the whole tree is quiet.
%%
%% Events of a step, in the order in which they happened:
%%   +id started    !id its start failed    ?id its start said ignore    -id stopped by its supervisor, or a supervisor that ended
%%   ~id gone because a supervisor above it was killed
%% Where Erlang leaves the order open they are sorted: below a killed supervisor, and among the children that a
%% simple_one_for_one supervisor ends.
%%
%% Run with one scheduler (+S 1:1), under which signals arrive in the order in which they are sent. Each seed is run twice and
%% both runs must be the same.
-module(traces).
-behaviour(supervisor).
-export([main/1, init/1, start_node/1, start_dynamic/2]).

-define(RECORDER, trace_recorder).
-define(DEPTH_MAX, 4).
-define(FOREVER_S, 3600).

main([From, Count, WaitingCount]) ->
    logger:set_primary_config(level, none),
    io:setopts([{encoding, utf8}]),
    First = list_to_integer(From),
    Plain = list_to_integer(Count),
    Waiting = list_to_integer(WaitingCount),
    [emit(Seed, no_waits) || Seed <- lists:seq(First, First + Plain - 1)],
    [emit(Seed, waits) || Seed <- lists:seq(First + Plain, First + Plain + Waiting - 1)],
    halt(0).

emit(Seed, Waits) ->
    One = record(Seed, Waits),
    case iolist_to_binary(record(Seed, Waits)) =:= iolist_to_binary(One) of
        true -> io:format("~ts~n", [One]);
        false ->
            io:format(standard_error, "seed ~p: two runs differ:~n~ts~n~ts~n", [Seed, One, record(Seed, Waits)]),
            halt(1)
    end.

record(Seed, Waits) ->
    Self = self(),
    {Pid, Mon} = spawn_monitor(fun() -> Self ! {trace, self(), run(Seed, Waits)} end),
    receive
        {trace, Pid, Trace} -> demonitor(Mon, [flush]), Trace;
        {'DOWN', Mon, process, Pid, Reason} -> exit({seed, Seed, Reason})
    end.

%% ---- one trace: this process is the parent of the root ----

run(Seed, Waits) ->
    process_flag(trap_exit, true),
    _ = rand:seed(exsss, {Seed, 17, 4711}),
    put(ids, 0),
    PeriodS = case Waits of waits -> 1; no_waits -> ?FOREVER_S end,
    Tree = gen_sup(1),
    Recorder = spawn_link(fun() -> recorder_of(PeriodS) end),
    register(?RECORDER, Recorder),
    Failing = case one_in(8) of
        true -> [{Id, rand:uniform(2), pick([error, error, ignore])} || Id <- worker_ids(Tree), one_in(3)];
        false -> []
    end,
    [ask({fail_next, Id, N, How}) || {Id, N, How} <- Failing],
    Root = supervisor:start_link(?MODULE, Tree),
    Started = take_events(),
    {Answer, Steps} = case Root of
        {ok, Pid} ->
            ask({started_root, maps:get(id, Tree), Pid}),
            After = shape(Pid, maps:get(id, Tree)),
            {<<"ok">>, [step0(Started, After) | steps(Pid, Tree, 4 + rand:uniform(6), Waits)]};
        {error, Reason} ->
            receive {'EXIT', _, _} -> ok after 1000 -> ok end,
            {failed_path(Reason), [step0(Started, <<>>)]}
    end,
    unlink(Recorder),
    Mon = monitor(process, Recorder),
    exit(Recorder, kill),
    receive {'DOWN', Mon, process, _, _} -> ok end,
    json(#{seed => Seed, periodMs => PeriodS * 1000, tree => tree_words(Tree),
           failing => [words([Id, N, How]) || {Id, N, How} <- Failing], start => Answer, steps => changes(<<>>, Steps)}).

step0(Events, After) -> #{events => join(Events, <<" ">>), 'after' => After}.

%% The shape is written only where it differs from the one before.
changes(_, []) -> [];
changes(Before, [#{'after' := Before} = Step | Rest]) -> [maps:remove('after', Step) | changes(Before, Rest)];
changes(_, [#{'after' := Now} = Step | Rest]) -> [Step | changes(Now, Rest)];
changes(Before, [Step | Rest]) -> [Step | changes(Before, Rest)].

%% A worker is a line of words, a supervisor a list: its own line, then its children.
tree_words(#{strategy := simple_one_for_one, template := Template} = Sup) ->
    [sup_words(Sup), worker_words(Template#{id => template})];
tree_words(#{strategy := _, children := Children} = Sup) -> [sup_words(Sup) | [tree_words(C) || C <- Children]];
tree_words(Worker) -> worker_words(Worker).

sup_words(#{id := Id, strategy := Strategy, intensity := Intensity, autoShutdown := Auto} = Sup) ->
    words([Id, Strategy, Intensity, Auto] ++ traits(Sup)).

worker_words(#{id := Id} = Worker) -> words([Id | traits(Worker)]).

traits(#{restart := Restart, shutdownMs := Shutdown} = Child) ->
    [Restart, Shutdown] ++ [Flag || Flag <- [significant, stubborn], maps:get(Flag, Child, false)];
traits(_Root) -> [].

words(Words) -> join([word_of(W) || W <- Words], <<" ">>).

word_of(Word) when is_binary(Word) -> Word;
word_of(Json) when is_list(Json) -> iolist_to_binary(Json);
word_of(Word) when is_atom(Word) -> atom_to_binary(Word);
word_of(Word) when is_integer(Word) -> integer_to_binary(Word).

failed_path({shutdown, {failed_to_start_child, Id, Reason}}) -> join([<<"failed">>, Id | failed_ids(Reason)], <<" ">>).
failed_ids({shutdown, {failed_to_start_child, Id, Reason}}) -> [Id | failed_ids(Reason)];
failed_ids(failed) -> [].

steps(Root, Tree, 0, _Waits) ->
    Mon = monitor(process, Root),
    exit(Root, shutdown),
    receive {'DOWN', Mon, process, Root, shutdown} -> ok end,
    receive {'EXIT', Root, shutdown} -> ok end,
    _ = Tree,
    [#{do => [<<"end">>], events => join(take_events(), <<" ">>)}];
steps(Root, Tree, N, Waits) ->
    Nodes = ask(nodes),
    {SupId, Sup} = pick(ask(sups)),
    Wait = case Waits =:= waits andalso N rem 4 =:= 0 of true -> 2200; false -> 0 end,
    timer:sleep(Wait),
    ok = sys:suspend(Sup),
    Actions = [act_somehow(SupId, Sup, Nodes, 6) || _ <- lists:seq(1, pick([1, 1, 1, 2, 3, 4]))],
    Direct = take_events(),
    ok = sys:resume(Sup),
    Done = [case Request of
                none -> words(Action);
                _ -> words(Action ++ [<<"=">>, answer(SupId, Request)])
            end || {Action, Request} <- Actions, Action =/= none],
    settle(Root),
    Events = Direct ++ take_events(),
    IsOver = not is_process_alive(Root),
    After = case IsOver of true -> <<"over">>; false -> shape(Root, maps:get(id, Tree)) end,
    Waited = [words([wait, Wait]) || Wait > 0],
    Step = #{on => SupId, do => Waited ++ Done, events => join(Events, <<" ">>), 'after' => After},
    case IsOver of
        true -> receive {'EXIT', Root, shutdown} -> [Step] end;
        false -> [Step | steps(Root, Tree, N - 1, Waits)]
    end.

act_somehow(SupId, Sup, Nodes, Tries) ->
    case act(SupId, Sup, Nodes) of
        {none, none} when Tries > 0 -> act_somehow(SupId, Sup, Nodes, Tries - 1);
        Done -> Done
    end.

%% Something happens to the suspended supervisor; calls are sent and answered later.
act(SupId, Sup, Nodes) ->
    Children = ask({children, SupId}),
    #{strategy := Strategy} = Spec = maps:get(SupId, Nodes),
    Alive = [{Id, Pid} || {Id, Pid} <- Children, is_process_alive(Pid)],
    case pick(kinds(Strategy)) of
        exit when Alive =/= [] ->
            {Id, Pid} = pick(Alive),
            case maps:get(Id, Nodes, worker) of
                #{strategy := _} ->
                    ask({kill, Id}),
                    {[exit, Id, kill], none};
                _ ->
                    Reason = pick([normal, shutdown, shutdown_term, error, error, error, kill]),
                    ask({exit, Id, Pid, Reason}),
                    {[exit, Id, Reason], none}
            end;
        fail_next when Children =/= [] ->
            {Id, _} = pick(Children),
            case maps:get(Id, Nodes, worker) of
                #{strategy := _} -> {none, none};
                _ ->
                    N = rand:uniform(3),
                    How = case Strategy of simple_one_for_one -> error; _ -> pick([error, error, error, ignore]) end,
                    ask({fail_next, Id, N, How}),
                    {[fail_next, Id, N, How], none}
            end;
        start when Strategy =:= simple_one_for_one ->
            Id = join([SupId, <<".d">>, integer_to_binary(ask({next_dynamic, SupId}))], <<>>),
            {[start, Id], send(Sup, {start_child, [Id]})};
        start ->
            Workers = [Id || {Id, _} <- Children, not maps:is_key(Id, Nodes)],
            New = case Workers =/= [] andalso one_in(3) of
                true -> (gen_worker(maps:get(autoShutdown, Spec)))#{id => pick(Workers)};
                false -> gen_child(?DEPTH_MAX - rand:uniform(2) + 1, maps:get(autoShutdown, Spec))
            end,
            {[start_new, json(tree_words(New))], send(Sup, {start_child, child_spec(New)})};
        terminate when Strategy =:= simple_one_for_one, Alive =/= [] ->
            {Id, Pid} = pick(Alive),
            case ask({is_touched, Id}) of
                true -> {none, none};
                false ->
                    ask({touch, Id}),
                    {[terminate, Id], send(Sup, {terminate_child, Pid})}
            end;
        Verb when Strategy =/= simple_one_for_one, Verb =:= terminate orelse Verb =:= restart orelse Verb =:= delete ->
            Id = case Children =:= [] orelse one_in(12) of true -> <<"nobody">>; false -> element(1, pick(Children)) end,
            Request = case Verb of terminate -> terminate_child; restart -> restart_child; delete -> delete_child end,
            {[Verb, Id], send(Sup, {Request, Id})};
        which -> {[which], send(Sup, which_children)};
        count -> {[count], send(Sup, count_children)};
        _ -> {none, none}
    end.

kinds(simple_one_for_one) -> [exit, exit, exit, start, start, start, fail_next, terminate, which, count];
kinds(_) -> [exit, exit, exit, exit, start, fail_next, fail_next, terminate, terminate, restart, restart, delete, which, count].

send(Sup, Request) -> gen_server:send_request(Sup, Request).

answer(_SupId, none) -> <<>>;
answer(SupId, Request) ->
    case gen_server:receive_response(Request, 10000) of
        {reply, Reply} -> word(SupId, Reply);
        {error, _} -> <<"noproc">>
    end.

word(_, ok) -> <<"ok">>;
word(_, {ok, undefined}) -> <<"ok undefined">>;
word(_, {ok, Pid}) when is_pid(Pid) -> <<"ok">>;
word(_, {error, {already_started, _}}) -> <<"already_started">>;
word(_, {error, {failed, _Child}}) -> <<"start_failed">>;
word(_, {error, {{shutdown, {failed_to_start_child, _, _}}, _Child}}) -> <<"start_failed">>;
word(_, {error, {shutdown, {failed_to_start_child, _, _}}}) -> <<"start_failed">>;
word(_, {error, failed}) -> <<"start_failed">>;
word(_, {error, Word}) when is_atom(Word) -> atom_to_binary(Word);
word(_, [{specs, S}, {active, A}, {supervisors, Sup}, {workers, W}]) ->
    join([integer_to_binary(X) || X <- [S, A, Sup, W]], <<"/">>);
word(SupId, List) when is_list(List) -> listing(SupId, List).

listing(SupId, List) ->
    Names = ask({names, SupId}),
    case [X || {undefined, _, _, _} = X <- List] of
        [] -> join([child_word(Id, C) || {Id, C, _, _} <- List], <<" ">>);
        Dynamic ->
            Known = lists:sort([maps:get(P, Names, <<"gone">>) || {_, P, _, _} <- Dynamic, is_pid(P)]),
            Restarting = length([x || {_, restarting, _, _} <- Dynamic]),
            join(Known ++ [join([<<"~">>, integer_to_binary(Restarting)], <<>>) || Restarting > 0], <<" ">>)
    end.

child_word(Id, undefined) -> join([Id, <<"-">>], <<>>);
child_word(Id, restarting) -> join([Id, <<"~">>], <<>>);
child_word(Id, _) -> Id.

%% The whole tree as its supervisors list it.
shape(Pid, Id) ->
    List = supervisor:which_children(Pid),
    Nodes = ask(nodes),
    case maps:get(strategy, maps:get(Id, Nodes)) of
        simple_one_for_one -> join([Id, <<"{">>, listing(Id, List), <<"}">>], <<>>);
        _ -> join([Id, <<"(">>, join([child_shape(C) || C <- List], <<" ">>), <<")">>], <<>>)
    end.

child_shape({Id, Pid, supervisor, _}) when is_pid(Pid) -> shape(Pid, Id);
child_shape({Id, Child, _, _}) -> child_word(Id, Child).

%% Asks every supervisor until a few rounds in a row brought nothing new.
settle(Root) -> settle(Root, ask(event_count), 4).
settle(_, _, 0) -> ok;
settle(Root, Before, Left) ->
    visit(Root),
    case ask(event_count) of
        Before -> settle(Root, Before, Left - 1);
        Now -> settle(Root, Now, 4)
    end.

visit(Pid) ->
    try supervisor:which_children(Pid) of
        List -> [visit(P) || {_, P, supervisor, _} <- List, is_pid(P)]
    catch exit:_ -> gone
    end.

%% ---- trees ----

gen_sup(Depth) ->
    Id = new_id(<<"s">>),
    Strategy = pick([one_for_one, one_for_all, rest_for_one, one_for_one, one_for_all, rest_for_one, simple_one_for_one]),
    Auto = pick([never, never, any_significant, all_significant]),
    Common = #{id => Id, strategy => Strategy, intensity => pick([0, 1, 2, 3, 5]), autoShutdown => Auto},
    case Strategy of
        simple_one_for_one -> Common#{template => maps:remove(id, (gen_worker(Auto))#{stubborn => false}), children => []};
        _ ->
            Count = case Depth of 1 -> 1 + rand:uniform(3); _ -> pick([0, 1, 2, 2, 3]) end,
            Common#{children => [gen_child(Depth, Auto) || _ <- lists:seq(1, Count)]}
    end.

gen_child(Depth, Auto) ->
    case Depth < ?DEPTH_MAX andalso rand:uniform() < 0.4 of
        true ->
            Restart = pick([permanent, permanent, transient, temporary]),
            (gen_sup(Depth + 1))#{restart => Restart, significant => significant(Restart, Auto),
                                  shutdownMs => pick([infinity, infinity, 60000])};
        false -> gen_worker(Auto)
    end.

gen_worker(Auto) ->
    Restart = pick([permanent, permanent, transient, temporary]),
    {Shutdown, Stubborn} = pick([{1000, false}, {1000, false}, {infinity, false}, {brutal_kill, false}, {10, true}]),
    #{id => new_id(<<"w">>), restart => Restart, significant => significant(Restart, Auto),
      shutdownMs => Shutdown, stubborn => Stubborn}.

significant(permanent, _) -> false;
significant(_, never) -> false;
significant(_, _) -> one_in(2).

worker_ids(#{strategy := _, children := Children}) -> lists:flatmap(fun worker_ids/1, Children);
worker_ids(#{id := Id}) -> [Id].

new_id(Prefix) ->
    put(ids, get(ids) + 1),
    join([Prefix, integer_to_binary(get(ids))], <<>>).

child_spec(#{id := Id, restart := Restart, significant := Significant, shutdownMs := Shutdown} = Node) ->
    Type = case Node of #{strategy := _} -> supervisor; _ -> worker end,
    #{id => Id, start => {?MODULE, start_node, [Node]}, restart => Restart, significant => Significant,
      shutdown => Shutdown, type => Type}.

init(#{strategy := simple_one_for_one, template := Template} = Node) ->
    tell_sup(Node),
    #{restart := Restart, significant := Significant, shutdownMs := Shutdown} = Template,
    {ok, {flags(Node), [#{id => template, start => {?MODULE, start_dynamic, [Node]}, restart => Restart,
                          significant => Significant, shutdown => Shutdown}]}};
init(#{children := Children} = Node) ->
    tell_sup(Node),
    {ok, {flags(Node), [child_spec(C) || C <- Children]}}.

tell_sup(#{id := Id} = Node) ->
    put(sup_id, Id),
    ask({learn, Node}),
    ask({forget_children, Id}).

flags(#{strategy := Strategy, intensity := Intensity, autoShutdown := Auto}) ->
    #{strategy => Strategy, intensity => Intensity, period => ask(period), auto_shutdown => Auto}.

start_node(#{id := Id, strategy := _} = Node) ->
    case supervisor:start_link(?MODULE, Node) of
        {ok, Pid} -> ask({started, Id, Pid, self()}), {ok, Pid};
        {error, _} = Error -> ask({failed, Id}), Error
    end;
start_node(#{id := Id, stubborn := Stubborn}) -> start_worker(Id, Stubborn).

start_dynamic(#{template := #{stubborn := Stubborn}}, Id) -> start_worker(Id, Stubborn).

start_worker(Id, Stubborn) ->
    Sup = self(),
    case ask({starting, Id}) of
        ok ->
            Pid = spawn_link(fun() -> process_flag(trap_exit, true), Sup ! {up, self()}, worker(Id, Sup, Stubborn) end),
            receive {up, Pid} -> ok end,
            ask({started, Id, Pid, Sup}),
            {ok, Pid};
        error -> {error, failed};
        ignore -> ignore
    end.

worker(Id, Sup, Stubborn) ->
    receive
        {exit_with, Reason} -> exit(Reason);
        {'EXIT', Sup, killed} -> exit(killed);
        {'EXIT', Sup, _} when Stubborn -> worker(Id, Sup, Stubborn);
        {'EXIT', Sup, Reason} -> exit(Reason)
    end.

%% ---- the recorder: a process that all others call, and that monitors all of them ----

ask(Request) ->
    Mon = monitor(process, ?RECORDER),
    ?RECORDER ! {ask, self(), Mon, Request},
    receive
        {Mon, Answer} -> demonitor(Mon, [flush]), Answer;
        {'DOWN', Mon, process, _, Reason} -> exit({recorder, Reason})
    end.

take_events() -> ask(take_events).

recorder_of(PeriodS) ->
    process_flag(trap_exit, true),
    recorder(#{events => [], count => 0, pids => #{}, ids => #{}, failing => #{}, nodes => #{}, members => #{},
               dynamics => #{}, touched => #{}, expected => #{}, period => PeriodS}).

recorder(State) ->
    receive
        {ask, From, Ref, Request} ->
            {Answer, Next} = handle(Request, State),
            From ! {Ref, Answer},
            recorder(Next);
        {'DOWN', _, process, Pid, _Reason} -> recorder(down(Pid, State))
    end.

handle(period, #{period := Period} = S) -> {Period, S};
handle(take_events, #{events := Events} = S) -> {normal_order(lists:reverse(Events)), S#{events => [], touched => #{}}};
handle(event_count, #{count := Count} = S) -> {Count, S};
handle({fail_next, Id, N, How}, #{failing := F} = S) -> {ok, S#{failing => F#{Id => {N, How}}}};
handle({learn, #{id := Id} = Node}, #{nodes := Nodes} = S) ->
    case {Node, Nodes} of
        {#{strategy := _}, _} -> {ok, S#{nodes => Nodes#{Id => Node}}};
        _ -> {ok, S}
    end;
handle({forget_children, Id}, #{members := Members} = S) -> {ok, S#{members => Members#{Id => []}}};
handle(nodes, #{nodes := Nodes} = S) -> {Nodes, S};
handle(sups, #{ids := Ids, nodes := Nodes, members := Members} = S) ->
    All = lists:sort([{Id, Pid} || {Id, Pid} <- maps:to_list(Ids), maps:is_key(Id, Nodes), is_process_alive(Pid)]),
    Busy = [One || {Id, _} = One <- All,
                   maps:get(Id, Members, []) =/= [] orelse maps:is_key(template, maps:get(Id, Nodes))],
    {Busy ++ Busy ++ All, S};
handle({children, SupId}, #{members := Members, ids := Ids} = S) ->
    {[{Id, maps:get(Id, Ids, self_dead)} || Id <- maps:get(SupId, Members, []), maps:is_key(Id, Ids)], S};
handle({names, _SupId}, #{pids := Pids} = S) -> {Pids, S};
handle({next_dynamic, SupId}, #{dynamics := D} = S) ->
    N = maps:get(SupId, D, 0) + 1,
    {N, S#{dynamics => D#{SupId => N}}};
handle({is_touched, Id}, #{touched := T} = S) -> {maps:is_key(Id, T), S};
handle({touch, Id}, #{touched := T} = S) -> {ok, S#{touched => T#{Id => true}}};
handle({starting, Id}, #{failing := F} = S) ->
    case F of
        #{Id := {N, How}} when N > 0 ->
            Sign = case How of error -> <<"!">>; ignore -> <<"?">> end,
            {How, event(Sign, Id, S#{failing => F#{Id => {N - 1, How}}})};
        _ -> {ok, S}
    end;
handle({failed, Id}, S) -> {ok, event(<<"!">>, Id, S)};
handle({started_root, Id, Pid}, S) -> {ok, known(Id, Pid, S)};
handle({started, Id, Pid, Sup}, #{members := Members} = S) ->
    Known = known(Id, Pid, event(<<"+">>, Id, S)),
    SupId = sup_id(Sup, S),
    Old = maps:get(SupId, Members, []),
    {ok, Known#{members => Members#{SupId => [Id | lists:delete(Id, Old)]}}};
handle({exit, Id, Pid, Reason}, S) ->
    Expecting = expect(Pid, S),
    case Reason of
        kill -> exit(Pid, kill);
        normal -> Pid ! {exit_with, normal};
        shutdown -> Pid ! {exit_with, shutdown};
        shutdown_term -> Pid ! {exit_with, {shutdown, done}};
        error -> Pid ! {exit_with, crash}
    end,
    await_down(Pid),
    #{touched := T} = Expecting,
    {ok, Expecting#{touched => T#{Id => true}}};
handle({kill, Id}, #{ids := Ids} = S) ->
    All = below(Id, S),
    Pids = [{One, maps:get(One, Ids)} || One <- All, maps:is_key(One, Ids)],
    Alive = [{One, Pid} || {One, Pid} <- Pids, is_process_alive(Pid)],
    Expecting = lists:foldl(fun({_, Pid}, Acc) -> expect(Pid, Acc) end, S, Alive),
    exit(maps:get(Id, Ids), kill),
    [await_down(Pid) || {_, Pid} <- Alive],
    {ok, lists:foldl(fun(One, Acc) -> event(<<"~">>, One, Acc) end, Expecting, lists:sort([One || {One, _} <- Alive]))}.

known(Id, Pid, #{pids := Pids, ids := Ids} = S) ->
    monitor(process, Pid),
    S#{pids => Pids#{Pid => Id}, ids => Ids#{Id => Pid}}.

%% The supervisor whose init or call this is. Its pid is not known yet while it starts: then it is learnt by its children.
sup_id(Sup, #{pids := Pids}) ->
    case Pids of
        #{Sup := Id} -> Id;
        _ ->
            {dictionary, D} = process_info(Sup, dictionary),
            proplists:get_value(sup_id, D)
    end.

below(Id, #{members := Members}) -> [Id | lists:flatmap(fun(C) -> below(C, #{members => Members}) end, maps:get(Id, Members, []))].

expect(Pid, #{expected := E} = S) -> S#{expected => E#{Pid => true}}.

await_down(Pid) ->
    Mon = monitor(process, Pid),
    receive {'DOWN', Mon, process, Pid, _} -> ok end.

down(Pid, #{pids := Pids, expected := E, ids := Ids} = S) ->
    case {maps:is_key(Pid, E), Pids} of
        {true, _} -> S#{expected => maps:remove(Pid, E)};
        {false, #{Pid := Id}} ->
            case Ids of
                #{Id := Pid} -> event(<<"-">>, Id, S);
                _ -> S
            end;
        _ -> S
    end.

event(Sign, Id, #{events := Events, count := Count} = S) ->
    S#{events => [join([Sign, Id], <<>>) | Events], count => Count + 1}.

%% The children of a simple_one_for_one supervisor end in no particular order: runs of them are sorted.
normal_order([]) -> [];
normal_order([Event | Rest]) ->
    case family(Event) of
        none -> [Event | normal_order(Rest)];
        Family ->
            {Same, Others} = lists:splitwith(fun(E) -> family(E) =:= Family end, Rest),
            lists:sort([Event | Same]) ++ normal_order(Others)
    end.

family(<<"-", Id/binary>>) ->
    case binary:split(Id, <<".d">>) of
        [Sup, _] -> Sup;
        _ -> none
    end;
family(_) -> none.

%% ---- small things ----

one_in(N) -> rand:uniform(N) =:= 1.
pick(List) -> lists:nth(rand:uniform(length(List)), List).
join(Parts, Separator) -> iolist_to_binary(lists:join(Separator, Parts)).

json(Map) when is_map(Map) ->
    Pairs = [[json(atom_to_binary(K)), <<":">>, json(V)] || {K, V} <- lists:sort(maps:to_list(Map))],
    [<<"{">>, lists:join(<<",">>, Pairs), <<"}">>];
json(List) when is_list(List) -> [<<"[">>, lists:join(<<",">>, [json(X) || X <- List]), <<"]">>];
json(Text) when is_binary(Text) -> [$", binary:replace(Text, <<"\"">>, <<"\\\"">>, [global]), $"];
json(true) -> <<"true">>;
json(false) -> <<"false">>;
json(Atom) when is_atom(Atom) -> json(atom_to_binary(Atom));
json(Number) when is_integer(Number) -> integer_to_binary(Number).
