#!/usr/bin/env bash
# A loop of `adb devices` and curl each second: each line that is new is posted.
# usage: poll.sh ADB URL
adb=$1 url=$2
tell() { curl -sS -o /dev/null -H 'content-type: application/json' -d "{\"serial\":\"$1\",\"state\":\"$2\"}" "$url"; }
declare -A before
while sleep 1; do
    declare -A now=()
    while read -r serial state; do now[$serial]=$state; done < <("$adb" devices | sed '1d; /^$/d')
    for serial in "${!now[@]}"; do
        [ "${before[$serial]:-}" = "${now[$serial]}" ] || tell "$serial" "${now[$serial]}"
    done
    for serial in "${!before[@]}"; do
        [ -n "${now[$serial]:-}" ] || tell "$serial" unplugged
    done
    before=()
    for serial in "${!now[@]}"; do before[$serial]=${now[$serial]}; done
done
