# frozen_string_literal: true

# Three accounts, each with an access token: taken from SEED_<NAME>_TOKEN or, for
# a lab, "lab-<name>-token". Seeding twice changes nothing.
%w(admin probe load).each do |name|
  account = Account.find_or_create_by!(username: name) { |a| a.display_name = name.capitalize }
  AccountSetting.find_or_create_by!(account: account)
  user = User.find_or_create_by!(email: "#{name}@#{Rails.configuration.x.local_domain}") { |u| u.account = account }
  token = ENV.fetch("SEED_#{name.upcase}_TOKEN", "lab-#{name}-token")
  AccessToken.find_or_create_by!(token: token) { |t| t.assign_attributes(user: user) }
  puts "account #{name} id=#{account.id} token=#{token}"
end

admin = Account.find_by!(username: 'admin')
Status.create!(account: admin, text: 'Hello, world') if Status.none?
