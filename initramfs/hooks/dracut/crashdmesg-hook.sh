#!/bin/sh
# Sourced by dracut's init in pre-mount; it must not exit.
[ ! -x /usr/lib/crashdmesg/ship ] || /usr/lib/crashdmesg/ship
