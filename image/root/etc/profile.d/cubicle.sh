# A login shell starts with Debian's PATH; put the commands of the user's own packages back.
if [ -n "${PYTHONUSERBASE:-}" ]; then
    PATH="$PYTHONUSERBASE/bin:$PATH"
fi
export PATH
