#!/bin/sh
# Sourced by dracut's init in its first hook, cmdline; it must not exit.
[ ! -x /usr/lib/crashdmesg/ship ] || /usr/lib/crashdmesg/ship
