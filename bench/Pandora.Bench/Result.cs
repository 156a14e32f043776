using System.Globalization;

namespace Pandora.Bench;

/// <summary>One line of the table.</summary>
/// <param name="Name">What is measured.</param>
/// <param name="Value">The measured value.</param>
/// <param name="Unit">Unit of the value.</param>
/// <param name="Target">The highest value that meets the objective.</param>
/// <param name="Reference">For a ratio, the two values that it compares; else how often it was measured.</param>
internal sealed record Result(string Name, double Value, string Unit, double Target, string Reference = "")
{
    public double Value { get; init; } = Math.Round(Value, 3);

    public bool IsMet => Value <= Target;

    public string Shown => string.Create(CultureInfo.InvariantCulture, $"{Value:0.##} {Unit}");

    public string Wanted => string.Create(CultureInfo.InvariantCulture, $"≤ {Target:0.##}");
}
