# frozen_string_literal: true

Rails.application.routes.draw do
  get 'health', to: 'health#show'

  root 'home#index'
  get 'about', to: 'home#index'
  get 'auth/sign_in', to: 'home#sign_in'
  get 'manifest', to: 'manifests#show'
  get 'nodeinfo/2.0', to: 'node_info#show'
  get 'slow', to: 'slow#show'

  post 'inbox', to: 'activitypub/inboxes#create'

  namespace :api, defaults: { format: 'json' } do
    namespace :v1 do
      get 'timelines/public', to: 'timelines#public_timeline'
      get 'accounts/verify_credentials', to: 'accounts#verify_credentials'
      get 'instance', to: 'instances#show'
      resources :statuses, only: %i(create show)
    end

    namespace :v2 do
      get 'instance', to: 'instances#show'
    end
  end
end
