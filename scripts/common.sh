# shellcheck shell=bash
# The part that the scripts in this folder share, to be sourced. It changes to the repository's root.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
target=${CARGO_TARGET_DIR:-$PWD/target}

for tool in cargo go git; do
    command -v "$tool" >/dev/null || {
        echo "$0: $tool is missing. It takes Rust (by rustup), Go 1.26 or newer, and git." >&2
        exit 1
    }
done

jobs=()
# Ends the jobs that still run beside us. Each is a process group.
end_jobs() {
    for job in "${jobs[@]}"; do
        kill -- "-$job" 2>/dev/null || true
    done
}
trap end_jobs EXIT

# A script may add parts that not every lab needs: see tests/lab/src/bin/parts.rs.
more_parts=()

# beside_parts WHAT COMMAND...: builds the lab's parts and runs COMMAND at the same time. It prints every two seconds
# that COMMAND still runs, as WHAT (the build of the parts prints its own progress). If either fails, so does the
# script.
beside_parts() {
    local what=$1 start=$SECONDS said=$SECONDS
    shift
    # Both run in a process group of their own, so that all their processes can be ended.
    setsid "$target/debug/parts" "${more_parts[@]}" &
    local parts=$!
    # Output of the other job would break up Cargo's progress line, so it prints none.
    CARGO_TERM_PROGRESS_WHEN=never setsid "$@" &
    local command=$!
    jobs=("$parts" "$command")
    while kill -0 "$command" 2>/dev/null; do
        sleep 0.1
        if ((SECONDS >= said + 2)); then
            said=$SECONDS
            echo "$what: $((SECONDS - start)) s" >&2
        fi
    done
    wait "$command"
    wait "$parts"
    jobs=()
}
