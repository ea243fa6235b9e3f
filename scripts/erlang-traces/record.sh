#!/usr/bin/env bash
# Records what Erlang's own supervisor does with random trees: writes test/supervisors/erlang/traces.ndjson anew.
# Needs erlang-base (Debian: apt-get install erlang-base; recorded with OTP 25.2.3). The tests need only the file.
set -euo pipefail
cd "$(dirname "$0")"
out=../../test/supervisors/erlang/traces.ndjson
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
erlc -o "$work" traces.erl

# part NAME FIRST_SEED TRACES TRACES_THAT_WAIT: those that wait let the period of the intensity pass, in real seconds.
part() { erl +S 1:1 -noshell -pa "$work" -run traces main "$2" "$3" "$4" >"$work/part-$1"; }

pids=()
part 0 1 340 0 & pids+=($!)
for i in 1 2 3 4 5 6; do part "$i" $((1000 + 5 * i)) 0 5 & pids+=($!); done
for pid in "${pids[@]}"; do wait "$pid"; done
cat "$work"/part-* >"$out"
echo "$(wc -l <"$out") traces, $(wc -c <"$out") bytes, OTP $(erl -noshell -eval 'io:put_chars(erlang:system_info(otp_release)), halt().')"
