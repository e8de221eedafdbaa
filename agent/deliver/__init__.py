"""From stored callback to answer: payload, route, signing, policy, dispatcher, client."""
