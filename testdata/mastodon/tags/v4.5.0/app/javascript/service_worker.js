self.addEventListener('install', () => self.skipWaiting());
self.addEventListener('push', (event) => event.waitUntil(self.registration.showNotification(event.data.text())));
