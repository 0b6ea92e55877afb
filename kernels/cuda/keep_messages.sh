#!/bin/sh
# keep_messages.sh COMPILER ARGUMENT...: runs the compiler and keeps what it says in the object's name plus .messages,
# because ninja shows what ptxas says about a kernel once and forgets it.
object= previous=
for argument in "$@"; do
  [ "$previous" = -o ] && object=$argument
  previous=$argument
done
"$@" 2>"$object.messages"
status=$?
# Of a good run only warnings are worth a look.
if [ $status -ne 0 ]; then cat "$object.messages" >&2; else grep -i warning "$object.messages" >&2; fi
exit $status
