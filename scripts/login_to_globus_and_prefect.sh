# Gives the credentials of .env to the shell that reads this file, under the names that every Globus tool knows:
#
#   source scripts/login_to_globus_and_prefect.sh
#
# The file is .env of this folder, or the one that BEAMLINE_ENV_FILE names, as for the service. It takes no argument: a
# script that sources it would pass on its own. Values are taken as written, less quotes around them, as the service
# takes them: nothing in the file is run. It never ends the shell, and prints no secret.
# For bash and zsh.

_beamline_login() {
    [ -z "${ZSH_VERSION:-}" ] || emulate -L zsh  # whatever options its user likes
    local file=${BEAMLINE_ENV_FILE:-.env} line name value count=0 missing=
    if [ ! -r "$file" ]; then
        printf 'There is no %s that can be read. Next: copy .env.example to .env and fill it in, or name the file in BEAMLINE_ENV_FILE.\n' "$file" >&2
        return 1
    fi
    while IFS= read -r line || [ -n "$line" ]; do
        line=${line%$'\r'}
        line=${line#"${line%%[![:space:]]*}"}
        case $line in
            '' | '#'*) continue ;;
            *=*) ;;
            *) printf 'A line of %s is no NAME=value; it was passed over.\n' "$file" >&2; continue ;;
        esac
        name=${line%%=*}
        value=${line#*=}
        name=${name#export }
        name=${name%"${name##*[![:space:]]}"}
        value=${value#"${value%%[![:space:]]*}"}
        case $value in
            \"*\"*) value=${value#\"}; value=${value%%\"*} ;;
            \'*\'*) value=${value#\'}; value=${value%%\'*} ;;
            *) value=${value%%[[:space:]]'#'*}; value=${value%"${value##*[![:space:]]}"} ;;
        esac
        case $name in
            '' | [0-9]* | *[!A-Za-z0-9_]*) printf 'A line of %s has no proper name; it was passed over.\n' "$file" >&2; continue ;;
        esac
        [ -n "$value" ] || continue
        export "$name=$value"
        count=$((count + 1))
    done < "$file"

    # The Globus command line, and the Globus Compute SDK, know the client under names of their own.
    if [ -n "${GLOBUS_CLIENT_ID:-}" ] && [ -n "${GLOBUS_CLIENT_SECRET:-}" ]; then
        export GLOBUS_CLI_CLIENT_ID=$GLOBUS_CLIENT_ID GLOBUS_CLI_CLIENT_SECRET=$GLOBUS_CLIENT_SECRET
        export GLOBUS_COMPUTE_CLIENT_ID=${GLOBUS_COMPUTE_CLIENT_ID:-$GLOBUS_CLIENT_ID}
        export GLOBUS_COMPUTE_CLIENT_SECRET=${GLOBUS_COMPUTE_CLIENT_SECRET:-$GLOBUS_CLIENT_SECRET}
    else
        missing=' GLOBUS_CLIENT_ID and GLOBUS_CLIENT_SECRET'
    fi
    [ -n "${PREFECT_API_URL:-}" ] || missing="$missing PREFECT_API_URL"
    printf '%d variables of %s are set.\n' "$count" "$file" >&2
    if [ -n "$missing" ]; then
        printf 'Not set:%s. Next: add them to %s, and source this again.\n' "$missing" "$file" >&2
        return 1
    fi
    printf 'Next: beamline doctor\n' >&2
}

if { [ -n "${BASH_VERSION:-}" ] && [ "${BASH_SOURCE[0]}" = "$0" ]; } || [ "${ZSH_EVAL_CONTEXT:-}" = toplevel ]; then
    printf 'This was run, and must be sourced to have an effect: source %s\n' "$0" >&2
    exit 2
fi
_beamline_login_status=0
_beamline_login || _beamline_login_status=$?
unset -f _beamline_login
return "$_beamline_login_status"
