# frozen_string_literal: true

# BOOT_DELAY: seconds that a start takes longer, for trying out what waits for it.
sleep Float(ENV['BOOT_DELAY']) if ENV['BOOT_DELAY'].to_s != ''
