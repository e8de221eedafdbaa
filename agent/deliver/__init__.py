"""From stored callback to answer: payload, route, signing, policy, client, dispatcher."""
