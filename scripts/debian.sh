# shellcheck shell=bash
# This file is to be sourced. debian COMMAND PACKAGE...: installs these packages of Debian if COMMAND is missing.

debian() {
    local command=$1 sudo=
    shift
    ! command -v "$command" >/dev/null || return 0
    if ! command -v apt-get >/dev/null; then
        echo "$0: $command is missing; in Debian it is in $*" >&2
        return 1
    fi
    [ "$(id -u)" = 0 ] || sudo=sudo
    $sudo apt-get update --quiet --quiet
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install --quiet --quiet --yes --no-install-recommends "$@"
}
