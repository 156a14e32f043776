using System.Net;

namespace Pandora.Engine.Guests.Ports;

/// <summary>A port on which a program in a guest listens at one address.</summary>
/// <param name="Port">The port: 1 to 65,535.</param>
/// <param name="Address">The address in the guest.</param>
/// <param name="Pid">Pid of a program that listens; null when it is not known.</param>
/// <param name="Program">Name of that program; null when it is not known.</param>
public sealed record GuestPort(int Port, IPAddress Address, int? Pid, string? Program);
