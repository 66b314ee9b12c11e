// Seed 001's JavaScript example as it stands there, but for the address, the key and the id of the user.
const API_BASE = process.env.API_BASE;
const API_KEY = process.env.API_KEY;

let jwtToken = null;
let tokenExpiresAt = null;

async function getJwtToken() {
  if (jwtToken && tokenExpiresAt && Date.now() < tokenExpiresAt) {
    return jwtToken;
  }

  const response = await fetch(`${API_BASE}/auth/validate`, {
    method: 'POST',
    headers: {
      'Authorization': `Bearer ${API_KEY}`
    }
  });

  const data = await response.json();
  if (!data.success) {
    throw new Error(data.error.message);
  }

  jwtToken = data.data.token;
  tokenExpiresAt = new Date(data.data.expiresAt).getTime();
  return jwtToken;
}

async function apiRequest(method, path, body = null) {
  const token = await getJwtToken();

  const options = {
    method,
    headers: {
      'Authorization': `Bearer ${token}`,
      'Content-Type': 'application/json'
    }
  };

  if (body) {
    options.body = JSON.stringify(body);
  }

  const response = await fetch(`${API_BASE}${path}`, options);
  return response.json();
}

const USER = process.env.USER_ID;
const answers = {
  users: await apiRequest('GET', '/users?page=1&perPage=20'),
  user: await apiRequest('GET', `/users/${USER}`),
  plan: await apiRequest('PATCH', `/users/${USER}/plan`, {
    plan: 'professional'
  }),
  tokens: await apiRequest('PATCH', `/users/${USER}/tokens`, {
    tokens: 1000000,
    operation: 'set'
  }),
  models: await apiRequest('GET', '/models'),
  model: await apiRequest('POST', '/models', {
    name: 'claude-3-opus',
    label: 'Claude 3 Opus',
    tier: 'premium',
    supportsMedia: true
  }),
  analytics: await apiRequest('GET', '/analytics/overview'),
};
console.log(JSON.stringify(answers));
