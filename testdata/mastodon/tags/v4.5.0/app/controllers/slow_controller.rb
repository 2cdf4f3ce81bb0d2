# frozen_string_literal: true

# Answers after ?ms= milliseconds; with ?db=1 it holds a database connection meanwhile.
class SlowController < ActionController::API
  LONGEST = 60_000

  def show
    ms = Integer(params.fetch(:ms, 0)).clamp(0, LONGEST)
    if params[:db]
      ActiveRecord::Base.connection_pool.with_connection { |c| c.execute("SELECT pg_sleep(#{ms / 1000.0})") }
    else
      sleep(ms / 1000.0)
    end
    render plain: "#{ms} ms"
  end
end
